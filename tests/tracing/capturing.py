"""What the tests of capture share: a module of any function, and capture checked against eager."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from pebble.graph import Phase
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.tracing import Captured, OutputKind, SlotKind, capture
from pebble.tracing.output_templates import take_apart
from pebble.tracing.signature import HELD

X = torch.linspace(-1, 1, 32).reshape(4, 8)


class Function(nn.Module):
    """A module whose forward is a function of the module and the inputs."""

    def __init__(self, function: Callable[..., Any], **children: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.function = function
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def tensors_of(captured: Captured, model: nn.Module, args: Any, kwargs: Any) -> list[Any]:
    """One detached copy per placeholder, as a caller would look them up."""
    held = dict(model.named_parameters(remove_duplicate=False))
    held |= dict(model.named_buffers(remove_duplicate=False))
    places = {"args": args, "kwargs": kwargs}
    found = []
    for slot in captured.slots:
        if slot.node.op == "placeholder":
            is_input = slot.kind is SlotKind.INPUT
            tensor = eval(slot.name, places) if is_input else held[slot.name]
            found.append(tensor.detach().clone())
    return found


def agree(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    loss: Any = None,
    call: dict[str, Any] | None = None,
) -> Captured:
    """Capture, check the graph, and compare the interpreted joint graph with eager."""
    kwargs = kwargs or {}
    captured = capture(model, args, kwargs, loss=loss)
    check_graph(captured)
    given = tensors_of(captured, model, args, kwargs)
    eager = copy.deepcopy(model)
    torch.manual_seed(3)
    mine = copy.deepcopy((args, kwargs))
    output = eager(*mine[0], **mine[1], **(call or {}))
    _, made = take_apart(output)
    shown = [o for o in captured.outputs if o.kind in HELD]
    assert len(made) == len(shown)
    roots = [i for i, o in enumerate(shown) if o.kind is OutputKind.DIFFERENTIABLE]
    leaves = [tensor.detach().requires_grad_(i in roots) for i, tensor in enumerate(made)]
    scalar = (loss or sum_of(roots))(captured.rebuild(leaves))
    tangents = torch.autograd.grad(scalar, [leaves[i] for i in roots])
    (loss or sum_of(roots))(output).backward()

    torch.manual_seed(3)
    with torch.no_grad():
        results = fx.Interpreter(captured.joint).run(*given, *tangents)
    nodes = captured.joint.graph.output_node().args[0]
    by_node = {node: result for node, result in zip(nodes, results) if node is not None}
    for output_, tensor in zip(shown, made):
        torch.testing.assert_close(by_node[output_.node], tensor.detach())
    held = dict(eager.named_parameters(remove_duplicate=False))
    buffers = dict(eager.named_buffers(remove_duplicate=False))
    for slot in captured.slots:
        if slot.node in captured.gradients and slot.kind is SlotKind.PARAMETER:
            gradient = captured.gradients[slot.node]
            expected = held[slot.name].grad
            assert (gradient is None) == (expected is None), slot.name
            if gradient is not None:
                torch.testing.assert_close(by_node[gradient], expected)
    for output_ in captured.outputs:
        if output_.kind is OutputKind.BUFFER_UPDATE:
            torch.testing.assert_close(by_node[output_.node], buffers[output_.name])
        if output_.kind is OutputKind.INPUT_UPDATE:
            expected = eval(output_.name, {"args": mine[0], "kwargs": mine[1]})
            torch.testing.assert_close(by_node[output_.node], expected)
    rebuilt = captured.rebuild([by_node[o.node] for o in shown])
    assert type(rebuilt) is type(output)
    assert len(take_apart(rebuilt)[1]) == len(made)
    return captured


def sum_of(roots: list[int]) -> Callable[[Any], Any]:
    return lambda output: sum(take_apart(output)[1][i].sum() for i in roots)


def check_graph(captured: Captured) -> None:
    """What every capture must fulfil."""
    graph = captured.graph
    simulate(graph, Schedule.keep_all(graph))
    assert graph.boundary is not None
    boundary = graph.ops[graph.boundary]
    assert not boundary.recomputable and captured.op_nodes[graph.boundary] == ()
    made = tuple(captured.value_of[s.node] for s in captured.tangents)
    assert boundary.outputs[: len(made)] == made
    assert all(graph.values[v].pinned for v in boundary.outputs)
    assert {captured.value_of[o.node] for o in captured.outputs} <= set(boundary.inputs)
    executed = [node for nodes in captured.op_nodes for node in nodes]
    assert len(executed) == len(set(executed))
    assert captured.views.isdisjoint(executed)
    for node in captured.joint.graph.nodes:
        if node.op == "call_function":
            assert (node in captured.views) != (node in set(executed))
        if isinstance(node.meta.get("val"), torch.Tensor):
            value = graph.values[captured.value_of[node]]
            assert value.size == node.meta["val"].untyped_storage().nbytes()
    assert len(captured.value_source) == len(graph.values)
    for i, op in enumerate(graph.ops):
        assert op.phase is (Phase.FORWARD if i <= graph.boundary else Phase.BACKWARD)
        for node in captured.op_nodes[i][:1]:
            assert not node.target._schema.is_mutable
    seen = [captured.value_of[g] for g in captured.gradients.values() if g is not None]
    assert len(seen) == len(set(seen)), "every gradient has a storage of its own"
    assert all(graph.values[v].pinned for v in seen)
    inputs = {captured.value_of[s.node] for s in captured.slots}
    assert inputs == {i for i, value in enumerate(graph.values) if value.external}
