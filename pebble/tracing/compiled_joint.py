"""A joint graph of torch.compile as a captured step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from pebble.errors import CaptureError
from pebble.tracing.captured import Captured, State
from pebble.tracing.fused_groups import inlined_nodes
from pebble.tracing.graph_builder import build_graph
from pebble.tracing.refusals import check_layouts
from pebble.tracing.signature import Output, OutputKind, Slot, SlotKind, StepSignature
from pebble.tracing.tangent_storages import separate_tangents


def capture_joint(
    joint: fx.GraphModule,
    n_primals: int,
    n_outputs: int,
    static: frozenset[int],
    *,
    fused: bool = False,
) -> Captured:
    """A joint graph of torch.compile as a captured step.

    Writes to inputs at the end of the forward leave the graph: they are outputs of the capture,
    after the others (see `put_writes_back`).

    Parameters
    ----------
    joint : fx.GraphModule
    n_primals : int
        So many placeholders come before the tangents.
    n_outputs : int
        So many outputs belong to the forward.
    static : frozenset of int
        Primals that are parameters or buffers.
    fused : bool
        Whether a compiler fuses kernels: what it computes inside of others is no value.

    Raises
    ------
    CaptureError
        If sizes are symbolic, or the graph has ends that a schedule cannot place.
    """
    placeholders = [n for n in joint.graph.nodes if n.op == "placeholder"]
    primals, tangents = placeholders[:n_primals], placeholders[n_primals:]
    for node in placeholders:
        if not isinstance(node.meta.get("val"), torch.Tensor) or not _is_fixed(node.meta["val"]):
            raise CaptureError(
                f"Input {node.name!r} of the compiled graph has a symbolic size; a plan holds for "
                "fixed shapes. Compile with torch.compile(..., dynamic=False)."
            )
    results: list[Any] = list(joint.graph.output_node().args[0])  # type: ignore[arg-type]
    handed, gradients = results[:n_outputs], results[n_outputs:]
    if len(gradients) != n_primals or not all(isinstance(n, fx.Node) for n in handed):
        raise CaptureError(
            f"The compiled graph returns {len(gradients)} gradients for {n_primals} inputs and "
            f"{n_outputs} forward outputs; effect tokens and outputs that are no tensors cannot be "
            "planned. Use pebble.optimize and Plan.apply on the model instead."
        )
    writes = _take_writes(joint)
    check_layouts(joint)
    separate_tangents(joint.graph, tangents)
    constants = [n for n in joint.graph.nodes if n.op == "get_attr" and "val" in n.meta]
    slots = _slots(primals, gradients, static)
    slots += [Slot(SlotKind.CONSTANT, str(n.target), n) for n in constants]
    outputs = _outputs(joint, handed, primals, {n.meta.get("desc") for n in tangents})
    outputs += [Output(OutputKind.BUFFER_UPDATE, to.name, made) for to, made in writes]
    by_primal = dict(zip(primals, gradients))
    roots = tuple(Slot(SlotKind.TANGENT, n.name, n) for n in tangents)
    signature = StepSignature.of(slots, roots, outputs, by_primal)
    inlined = inlined_nodes(joint, signature) if fused else frozenset()
    built = build_graph(joint, signature, name="compiled", inlined=inlined)
    return Captured(
        **vars(built),
        joint=joint,
        slots=tuple(slots),
        outputs=tuple(outputs),
        gradients=by_primal,
        tangents=roots,
        template=None,
        state=State({}, (), {}),
        loss=None,
        fake=False,
        device=str(primals[0].meta["val"].device) if primals else "cpu",
    )


def put_writes_back(forward: fx.GraphModule, captured: Captured, n_outputs: int) -> None:
    """Write to the inputs at the end of a forward half, as the joint graph did.

    Parameters
    ----------
    forward : fx.GraphModule
        Returns the outputs of the capture, then what is saved; changed in place.
    captured : Captured
    n_outputs : int
        Forward outputs without those that are written to inputs.
    """
    graph = forward.graph
    inputs = {node.name: node for node in graph.nodes if node.op == "placeholder"}
    end = graph.output_node()
    results: list[Any] = list(end.args[0])  # type: ignore[arg-type]
    updates = captured.outputs[n_outputs:]
    with graph.inserting_before(end):
        for output, made in zip(updates, results[n_outputs:]):
            target = inputs[output.name]
            written = graph.call_function(torch.ops.aten.copy_.default, (target, made))
            written.meta = dict(target.meta)
    end.args = ((*results[:n_outputs], *results[n_outputs + len(updates) :]),)
    forward.recompile()


def _take_writes(joint: fx.GraphModule) -> list[tuple[fx.Node, fx.Node]]:
    """The inputs that the forward writes to at its end, and what with; the writes are removed."""
    found = []
    for node in list(joint.graph.nodes):
        if node.target is not torch.ops.aten.copy_.default or node.args[0].op != "placeholder":
            continue
        if node.users:
            raise CaptureError(
                f"The compiled graph reads input {node.args[0].name!r} after it has written to it; "
                "such a step cannot be planned. Use pebble.optimize and Plan.apply on the model."
            )
        found.append((node.args[0], node.args[1]))
        joint.graph.erase_node(node)
    return found


def _slots(
    primals: Sequence[fx.Node], gradients: Sequence[fx.Node | None], static: frozenset[int]
) -> list[Slot]:
    kinds = [
        SlotKind.INPUT
        if i not in static
        else (SlotKind.BUFFER if gradient is None else SlotKind.PARAMETER)
        for i, gradient in enumerate(gradients)
    ]
    return [Slot(kind, node.name, node) for kind, node in zip(kinds, primals)]


def _outputs(
    joint: fx.GraphModule,
    handed: Sequence[fx.Node],
    primals: Sequence[fx.Node],
    roots: set[Any],
) -> list[Output]:
    """What becomes of the forward outputs, as far as their descriptions tell."""
    described = joint.graph.output_node().meta.get("desc") or [None] * len(handed)
    by_desc = {node.meta.get("desc"): node.name for node in primals}
    differentiated = {getattr(root, "output", None) for root in roots}
    outputs = []
    for i, (node, desc) in enumerate(zip(handed, described)):
        name = by_desc.get(getattr(desc, "mutated_input", None)) if desc is not None else None
        if name is not None:
            outputs.append(Output(OutputKind.BUFFER_UPDATE, name, node))
            continue
        root = desc is None or desc in differentiated
        kind = OutputKind.DIFFERENTIABLE if root else OutputKind.PLAIN
        outputs.append(Output(kind, f"output[{i}]", node))
    return outputs


def _is_fixed(tensor: torch.Tensor) -> bool:
    return all(isinstance(n, int) for n in (*tensor.shape, *tensor.stride()))
