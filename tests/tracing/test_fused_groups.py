"""Which nodes a compiler computes inside the kernels that read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.proxy_tensor import make_fx

from pebble.tracing.fused_groups import MOST_READS_ONCE, inlined_nodes, is_fusible
from pebble.tracing.graph_builder import BuiltGraph, build_graph
from pebble.tracing.signature import Output, OutputKind, Slot, SlotKind, StepSignature

aten = torch.ops.aten


def built(
    function: Callable[..., Any], n_inputs: int, rows: int = 64
) -> tuple[BuiltGraph, set[str]]:
    """The graph of a function of (inputs, one tangent), and the targets of what is inlined.

    It returns one output and one gradient.
    """
    examples = [torch.zeros(rows, rows) for _ in range(n_inputs + 1)]
    joint: fx.GraphModule = make_fx(function, tracing_mode="fake")(*examples)
    places = [n for n in joint.graph.nodes if n.op == "placeholder"]
    handed, gradient = joint.graph.output_node().args[0]
    slots = [Slot(SlotKind.INPUT, n.name, n) for n in places[:-1]]
    tangents = (Slot(SlotKind.TANGENT, places[-1].name, places[-1]),)
    outputs = [Output(OutputKind.DIFFERENTIABLE, "output", handed)]
    signature = StepSignature.of(slots, tangents, outputs, {places[0]: gradient})
    inlined = inlined_nodes(joint, signature)
    graph = build_graph(joint, signature, name="test", inlined=inlined)
    return graph, {str(n.target).split(".")[1] for n in inlined}


def names(graph: BuiltGraph) -> list[str]:
    return [op.kind.split("(")[0] for op in graph.graph.ops]


def test_a_chain_before_a_product_is_one_op_of_one_value() -> None:
    def step(x: Any, w: Any, t: Any) -> Any:
        return (x.sin() * 2 + 1) @ w, (t @ w) * 1.0

    graph, inlined = built(step, 2)
    assert inlined == {"sin", "mul"}
    made = [v for v in graph.graph.values if not v.external]
    assert len(made) == 5  # the sum, the product, the tangent, and two in the backward
    addition = graph.graph.ops[0]
    assert addition.kind.startswith("aten.add")
    assert [graph.graph.values[v].external for v in addition.inputs] == [True]


def test_the_backward_computes_a_chain_again_from_what_it_is_made_of() -> None:
    def step(x: Any, w: Any, t: Any) -> Any:
        inner = x.cos()
        return (inner * x) @ w, (t @ w) * inner

    graph, inlined = built(step, 2)
    assert "cos" in inlined
    last = graph.graph.ops[-1]
    assert {graph.graph.values[v].name for v in last.inputs} >= {"x_1"}


def test_what_is_narrower_than_what_it_is_made_of_may_be_saved() -> None:
    def step(x: Any, w: Any, t: Any) -> Any:
        both = (x @ w) + (w @ x)
        return both.sum(0).expand(64, 64) + 1, t * both

    graph, inlined = built(step, 2)
    assert "add" not in inlined
    saved = next(op for op in graph.graph.ops if op.kind.startswith("aten.add"))
    assert set(saved.outputs) & set(graph.graph.ops[-1].inputs)


def test_a_chain_that_reads_too_much_is_stored() -> None:
    many = MOST_READS_ONCE + 4

    def step(*tensors: Any) -> Any:
        total = tensors[0]
        for tensor in tensors[1:-1]:
            total = total + tensor
        return total.sin() @ tensors[0], tensors[-1] * 1.0

    graph, _ = built(step, many)
    assert max(len(op.inputs) for op in graph.graph.ops) <= MOST_READS_ONCE + 1
    assert sum(name.startswith("aten.add") for name in names(graph)) == 1


def test_two_graphs_of_other_chains_have_other_fingerprints() -> None:
    def one(x: Any, w: Any, t: Any) -> Any:
        return (x.sin() + 1) @ w, t @ w

    def two(x: Any, w: Any, t: Any) -> Any:
        return (x.cos() + 1) @ w, t @ w

    assert built(one, 2)[0].graph.fingerprint == built(one, 2)[0].graph.fingerprint
    assert built(one, 2)[0].graph.fingerprint != built(two, 2)[0].graph.fingerprint


def test_reductions_are_loops_and_products_are_not() -> None:
    joint = make_fx(lambda x: (x @ x).sum(0), tracing_mode="fake")(torch.zeros(4, 4))
    loops = {str(n.target) for n in joint.graph.nodes if n.op == "call_function" and is_fusible(n)}
    assert loops == {"aten.sum.dim_IntList"}
