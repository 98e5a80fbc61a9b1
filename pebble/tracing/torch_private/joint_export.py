"""AOT autograd: forward and backward of a flat graph as one functional aten graph."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import torch
from torch import fx

from pebble.tracing.torch_private.effect_tokens import drop_tokens
from pebble.tracing.torch_private.interpolation import interpolation_in_one_kernel
from pebble.tracing.torch_private.older_releases import kept_checks
from pebble.tracing.torch_private.sparse_rows import sparse_gradients_as_rows


class EndKind(StrEnum):
    """What an input or output of a joint graph stands for."""

    INPUT = "input"
    TANGENT = "tangent"
    RESULT = "result"
    UPDATE = "update"
    GRADIENT = "gradient"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class JointTrace:
    """A forward and backward graph, and what its ends stand for.

    Attributes
    ----------
    graph_module : fx.GraphModule
    inputs : tuple of (EndKind, int) or None, one per placeholder
        ``(INPUT, i)``: argument i; ``(TANGENT, i)``: of result i.
    outputs : tuple of (EndKind, int) or None, one per output
        ``(RESULT, i)``; ``(UPDATE, i)``: new contents of argument i; ``(GRADIENT, i)``.
    """

    graph_module: fx.GraphModule
    inputs: tuple[tuple[EndKind, int] | None, ...]
    outputs: tuple[tuple[EndKind, int] | None, ...]


def trace_joint(
    graph: fx.GraphModule,
    tensors: Sequence[torch.Tensor],
    fake_mode: Any,
    stand_ins: Mapping[int, torch.Tensor] = MappingProxyType({}),
) -> JointTrace:
    """Trace forward and backward of a flat graph into one functional aten graph.

    Parameters
    ----------
    graph : fx.GraphModule
        One placeholder per tensor; returns a tuple of tensors.
    tensors : sequence of Tensor
    fake_mode : FakeTensorMode
    stand_ins : mapping of int to Tensor
        By the `id` of a tensor, what it is traced as, of open sizes; the others have fixed ones.
    """
    # The joint graph with a description of every input and output; the older entry points have
    # a positional schema that knows no mutated inputs.
    from torch._functorch.aot_autograd import aot_export_joint_with_descriptors

    # Without a context of its own, a graph traced inside someone's compile would see theirs.
    from torch._guards import TracingContext, tracing

    # Real tensors would silently get symbolic sizes inside the context.
    flat = tuple(
        stand_ins[id(t)] if id(t) in stand_ins else fake_mode.from_tensor(t, static_shapes=True)
        for t in tensors
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(fake_mode)
        stack.enter_context(tracing(TracingContext(fake_mode)))
        stack.enter_context(_backward_outside_autocast())
        stack.enter_context(interpolation_in_one_kernel())
        stack.enter_context(kept_checks())
        stack.enter_context(sparse_gradients_as_rows())
        made = aot_export_joint_with_descriptors(
            stack, graph, flat, {}, keep_inference_input_mutations=False
        )
    module = made.graph_module
    module.graph.set_codegen(fx.graph.CodeGen())  # flat arguments, instead of two tuples
    drop_tokens(module.graph)
    nodes = module.graph.nodes
    inputs = [_input_end(n.meta["desc"]) for n in nodes if n.op == "placeholder"]
    outputs = [_output_end(d) for d in module.graph.output_node().meta["desc"]]
    return JointTrace(module, tuple(inputs), tuple(outputs))


def _backward_outside_autocast() -> contextlib.AbstractContextManager[None]:
    """Trace the backward as eager runs it; torch's default is under the ambient autocast."""
    from torch._functorch import config

    if not hasattr(config, "backward_pass_autocast"):
        return contextlib.nullcontext()
    patched: contextlib.AbstractContextManager[None] = config.patch(backward_pass_autocast="off")
    return patched


def _input_end(desc: Any) -> tuple[EndKind, int] | None:
    kind = type(desc).__name__
    if kind == "PlainAOTInput":
        return EndKind.INPUT, desc.idx
    if kind == "TangentAOTInput" and type(desc.output).__name__ == "PlainAOTOutput":
        return EndKind.TANGENT, desc.output.idx
    return None


def _output_end(desc: Any) -> tuple[EndKind, int] | None:
    kind = type(desc).__name__
    if desc is None:
        return EndKind.UNKNOWN, -1
    if kind == "PlainAOTOutput":
        return EndKind.RESULT, desc.idx
    for ours, theirs, field in (
        (EndKind.UPDATE, "InputMutationAOTOutput", "mutated_input"),
        (EndKind.GRADIENT, "GradAOTOutput", "grad_of"),
    ):
        if kind == theirs and type(getattr(desc, field)).__name__ == "PlainAOTInput":
            return ours, getattr(desc, field).idx
    return None
