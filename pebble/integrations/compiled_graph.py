"""A joint graph of torch.compile as a captured step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from pebble.errors import CaptureError
from pebble.tracing import Captured, Output, OutputKind, Slot, SlotKind, State
from pebble.tracing.graph_builder import build_graph
from pebble.tracing.signature import StepSignature
from pebble.tracing.tangent_storages import separate_tangents


def capture_joint(
    joint: fx.GraphModule, n_primals: int, n_outputs: int, static: frozenset[int]
) -> Captured:
    """A joint graph of torch.compile as a captured step.

    Parameters
    ----------
    joint : fx.GraphModule
    n_primals : int
        So many placeholders come before the tangents.
    n_outputs : int
        So many outputs belong to the forward.
    static : frozenset of int
        Primals that are parameters or buffers.

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
    separate_tangents(joint.graph, tangents)
    constants = [n for n in joint.graph.nodes if n.op == "get_attr" and "val" in n.meta]
    slots = _slots(primals, gradients, static)
    slots += [Slot(SlotKind.CONSTANT, str(n.target), n) for n in constants]
    outputs = _outputs(joint, handed, primals, {n.meta.get("desc") for n in tangents})
    by_primal = dict(zip(primals, gradients))
    roots = tuple(Slot(SlotKind.TANGENT, n.name, n) for n in tangents)
    built = build_graph(joint, StepSignature.of(slots, roots, outputs, by_primal), name="compiled")
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
