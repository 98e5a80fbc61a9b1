"""The output of a traced forward: where its tensors come from, and which is differentiated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pebble.errors import CaptureError
from pebble.tracing.captured import Loss
from pebble.tracing.output_templates import leaves, take_apart, without
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
    roots : frozenset of int
        Positions of the tensors that are differentiated.
    """

    template: Any
    sources: tuple[int | torch.Tensor, ...]
    names: tuple[str, ...]
    roots: frozenset[int]


def read_output(
    traced: ForwardTrace, loss: Loss | None, *, loss_only: bool = False
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
        template, tensors = take_apart(output)
        result = {id(tensor): i for i, tensor in enumerate(stand_ins)}
        roots = _roots_of(loss, output, tensors) if loss else _default_root(output, tensors)
    if loss_only:
        template = without(template, set(range(len(tensors))) - roots)
        tensors, roots = [tensors[i] for i in sorted(roots)], frozenset(range(len(roots)))
    return TracedOutput(
        template,
        tuple(result.get(id(tensor), tensor) for tensor in tensors),
        tuple(leaf.path for leaf in leaves(template)),
        roots,
    )


def _default_root(output: Any, tensors: Sequence[torch.Tensor]) -> frozenset[int]:
    own = getattr(output, "loss", None)
    if own is None and isinstance(output, Mapping):
        own = output.get("loss")
    for i, tensor in enumerate(tensors):
        if tensor is own and tensor.requires_grad:
            return frozenset({i})
    for i, tensor in enumerate(tensors):
        if tensor.requires_grad:
            return frozenset({i})
    raise CaptureError(
        "Nothing in the model's output depends on a parameter or input that requires a gradient. "
        "Unfreeze a parameter, return the loss without detaching it, or pass labels to a model "
        "that computes its own loss."
    )


def _roots_of(loss: Loss, output: Any, tensors: Sequence[torch.Tensor]) -> frozenset[int]:
    given = [i for i, tensor in enumerate(tensors) if tensor.requires_grad]
    try:
        value = loss(output)
    except Exception as error:
        if "data" in str(error).lower() and "depend" in str(error).lower():
            return frozenset(given)  # it looks at numbers, which tells nothing of what it needs
        raise CaptureError(
            f"The loss fails on this model's output: {type(error).__name__}: {error}. Pass a "
            "callable that takes exactly what the model returns and gives a scalar tensor."
        ) from error
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        got = f"shape {list(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
        raise CaptureError(f"The loss gives {got}, not a scalar tensor; add .mean() or .sum().")
    grads: Sequence[Any] = ()
    if value.requires_grad and given:
        grads = torch.autograd.grad(value, [tensors[i] for i in given], allow_unused=True)
    roots = frozenset(i for i, grad in zip(given, grads) if grad is not None)
    if not roots:
        raise CaptureError(
            "The loss depends on no output of the model that has a gradient. Check that it uses "
            "the model's output and detaches nothing."
        )
    return roots
