"""The output of a traced forward: where its tensors come from, and which is differentiated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pebble.options import Differentiate
from pebble.tracing.captured import Loss
from pebble.tracing.differentiated_outputs import TracedTensors, roots_of
from pebble.tracing.output_templates import each_once, extended, leaves, take_apart, without
from pebble.tracing.signature import OutputKind
from pebble.tracing.torch_private.dynamo import ForwardTrace


@dataclass(frozen=True)
class TracedOutput:
    """The tensors of the output: which result of the trace, or which tensor itself, each one is.

    Attributes
    ----------
    template : object
    sources : tuple of int or Tensor
        A result of the trace, or a tensor that the model returns as it is (an input, a weight).
    names : tuple of str
    kinds : tuple of OutputKind
        What becomes of each.
    """

    template: Any
    sources: tuple[int | torch.Tensor, ...]
    names: tuple[str, ...]
    kinds: tuple[OutputKind, ...]


def read_output(
    traced: ForwardTrace,
    loss: Loss | None,
    differentiate: Differentiate = None,
    *,
    loss_only: bool = False,
) -> TracedOutput:
    """What the output of a trace is made of and what of it is differentiated.

    With `loss_only` the other tensors of the output are None: the step need not hold them.
    """
    with traced.fake_mode:
        stand_ins = [
            torch.empty_strided(e.shape, e.stride(), dtype=e.dtype, device=e.device).requires_grad_(
                e.requires_grad
            )
            for e in traced.examples
        ]
        output = traced.rebuild(stand_ins)
        template, tensors = each_once(*take_apart(output))
        parts = TracedTensors(output, tensors, _names(template))
        roots = kept = roots_of(parts, loss, differentiate, loss_only=loss_only)
    if traced.writes.writes:
        more = {name: stand_ins[i] for name, i in zip(_written_names(traced), traced.written)}
        template, tensors = extended(template, tensors, more)
        ids = {id(tensor) for tensor in more.values()}
        stashed = frozenset(i for i, tensor in enumerate(tensors) if id(tensor) in ids)
        kept = roots | stashed
        roots |= {i for i in stashed if tensors[i].requires_grad}
    if loss_only:
        template = without(template, set(range(len(tensors))) - kept)
        roots = frozenset(new for new, old in enumerate(sorted(kept)) if old in roots)
        tensors = [tensors[i] for i in sorted(kept)]
    result = {id(tensor): i for i, tensor in enumerate(stand_ins)}
    sources = tuple(result.get(id(tensor), tensor) for tensor in tensors)
    kinds = tuple(
        OutputKind.DIFFERENTIABLE
        if i in roots
        else OutputKind.CUT
        if tensor.requires_grad
        else OutputKind.PLAIN
        for i, tensor in enumerate(tensors)
    )
    return TracedOutput(template, sources, _names(template), kinds)


def _names(template: Any) -> tuple[str, ...]:
    """The path of each tensor: the first of one that is there twice."""
    found: dict[int, str] = {}
    for leaf in leaves(template):
        found.setdefault(leaf.index, leaf.path)
    return tuple(found[i] for i in sorted(found))


def _written_names(traced: ForwardTrace) -> list[str]:
    """A name for each tensor that the forward puts on a module."""
    return [f"written[{i}]" for i in range(len(traced.written))]
