"""Ops that hand back their very argument in eager, but a copy of it in a trace."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from pebble.tracing.torch_private.autograd import version_of
from pebble.tracing.torch_private.fake_tensors import FakeTensorMode
from pebble.tracing.torch_private.storages import storage_id


def restore_returned_arguments(forward: fx.GraphModule) -> None:
    """Put the argument in place of an op that returns it, where one of the two is written to.

    Dropout in evaluation mode returns its input, and ``y = dropout(x); y += 1`` changes x. While
    dynamo and AOT trace, dropout makes a copy. Without a write nobody sees a difference, and the
    graph stays what it is.

    Parameters
    ----------
    forward : fx.GraphModule
        Of torch calls, as dynamo makes it; changed in place.
    """
    made = (node.meta.get("example_value") for node in forward.graph.nodes)
    if not any(isinstance(t, torch.Tensor) and version_of(t) for t in made):
        return  # nothing is written to at all
    suspects = [node for node in forward.graph.nodes if _returns_argument(node)]
    if not suspects:
        return
    changed = _written_afterwards(forward, suspects)
    for node in changed:
        node.replace_all_uses_with(node.all_input_nodes[0])
        forward.graph.erase_node(node)
    if changed:
        forward.recompile()


def _returns_argument(node: fx.Node) -> bool:
    """Whether eager hands back the one tensor that the op is given, and the trace another."""
    made = node.meta.get("example_value")
    if node.op not in ("call_function", "call_method") or not isinstance(made, torch.Tensor):
        return False
    if len(node.all_input_nodes) != 1:
        return False
    given = node.all_input_nodes[0].meta.get("example_value")
    if not isinstance(given, torch.Tensor) or _looks(given) != _looks(made):
        return False
    if storage_id(given) == storage_id(made):
        return False
    with FakeTensorMode(), torch.no_grad():
        twin = _twin(given)
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda _: twin)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs) is twin
        return node.target(*args, **kwargs) is twin  # type: ignore[operator]


def _looks(tensor: torch.Tensor) -> tuple[Any, ...]:
    if tensor.layout is not torch.strided:
        return (tensor.layout,)
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _twin(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )


def _written_afterwards(forward: fx.GraphModule, suspects: list[fx.Node]) -> list[fx.Node]:
    """Those whose argument or result is written to after they run, as eager runs the graph."""
    watch = _Watch(forward, set(suspects))
    examples = [n.meta["example_value"] for n in forward.graph.nodes if n.op == "placeholder"]
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        twins = [_twin(t) if isinstance(t, torch.Tensor) else t for t in examples]
        watch.run(*twins, enable_io_processing=False)  # the caller's inputs are other ones
    return [node for node, (t, version) in watch.seen.items() if version_of(t) != version]


class _Watch(fx.Interpreter):
    """Runs a graph and notes how often a tensor had been written to when a node returned it."""

    def __init__(self, forward: fx.GraphModule, suspects: set[fx.Node]) -> None:
        super().__init__(forward)
        self.suspects = suspects
        self.seen: dict[fx.Node, tuple[torch.Tensor, int]] = {}

    def run_node(self, n: fx.Node) -> Any:
        """The node's result."""
        made = super().run_node(n)
        if n in self.suspects:
            self.seen[n] = made, version_of(made)
        return made
