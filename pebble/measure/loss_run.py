"""The boundary of a step: the user's loss, forward and backward, on the outputs of the forward."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pebble.tracing.captured import Captured
from pebble.tracing.signature import HELD, Output, OutputKind
from pebble.tracing.torch_private.storages import storage_bytes


@dataclass(frozen=True)
class LossRun:
    """What the caller's loss hands back.

    Attributes
    ----------
    tangents : list of Tensor
        One a differentiable output, in the layout that the backward half takes.
    loss_bytes : int
        Of the loss, its root gradient, and the gradients that were laid out otherwise than the
        backward half takes them: autograd holds on to those.
    """

    tangents: list[torch.Tensor]
    loss_bytes: int

    @property
    def bytes(self) -> int:
        """Of everything that it hands back, each tangent's storage counted by itself."""
        return self.loss_bytes + sum(t.untyped_storage().nbytes() for t in self.tangents)


def held_outputs(captured: Captured) -> list[Output]:
    """The outputs that the loss is given."""
    return [output for output in captured.outputs if output.kind in HELD]


def ways_to_run(captured: Captured) -> tuple[bool, ...]:
    """Whether the loss runs under autocast: a loop may call it there or after leaving it."""
    casts = captured.loss is not None and any(on for _, on, _ in captured.state.autocast)
    return (False, True) if casts else (False,)


def run_loss(
    captured: Captured, outputs: Sequence[torch.Tensor], *, autocast: bool = False
) -> LossRun:
    """Loss and gradients of the outputs that a loss may read.

    Where the loss is inside the graph, its root gradient is all.

    Parameters
    ----------
    captured : Captured
    outputs : sequence of Tensor
        One an entry of `held_outputs`.
    autocast : bool
        Whether the loss (not its backward) runs under the autocast of the capture.
    """
    held = held_outputs(captured)
    roots = [i for i, output in enumerate(held) if output.kind is OutputKind.DIFFERENTIABLE]
    if captured.loss is None and len(roots) == 1 and outputs[roots[0]].dim() == 0:
        return LossRun([torch.ones_like(outputs[i]) for i in roots], 0)
    with torch.enable_grad():
        anchor = torch.zeros((), requires_grad=True, device="meta")  # not to be weighed
        taken, held_on = list[torch.Tensor](), list[torch.Tensor]()
        handed = list(outputs)
        given = (outputs[i] for i in roots)
        made = _Handover.apply(anchor, taken, held_on, *given)  # type: ignore[no-untyped-call, unused-ignore]
        for i, root in zip(roots, made):
            handed[i] = root
        del root, made
        if captured.loss is not None:
            with contextlib.ExitStack() as stack:
                for device, on, dtype in captured.state.autocast:
                    stack.enter_context(torch.autocast(device, dtype, enabled=autocast and on))
                loss = captured.loss(captured.rebuild(handed))
        else:
            loss = total([handed[i] for i in roots])
        root_gradient = torch.ones_like(loss)
        loss.backward(root_gradient)  # type: ignore[no-untyped-call, unused-ignore]
    beside = storage_bytes([root_gradient, *held_on])
    return LossRun(taken, loss.untyped_storage().nbytes() + beside)


def total(roots: Sequence[torch.Tensor]) -> torch.Tensor:
    """The loss that stands for one that nobody named: the sum of all that is differentiated."""
    loss, *others = [root if root.numel() == 1 else root.sum() for root in roots]
    for other in others:
        loss = loss + other.reshape(loss.shape)
    return loss


class _Handover(torch.autograd.Function):
    """Outputs whose gradients are taken as a planned step takes them: in the outputs' layout."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor: torch.Tensor,
        taken: list[torch.Tensor],
        held_on: list[torch.Tensor],
        *outputs: torch.Tensor,
    ) -> Any:
        ctx.taken, ctx.held_on = taken, held_on
        ctx.likes = [(t.shape, t.stride()) for t in outputs]
        return tuple(t.detach() for t in outputs)

    @staticmethod
    def backward(ctx: Any, *tangents: torch.Tensor) -> tuple[None, ...]:
        for tangent, (shape, stride) in zip(tangents, ctx.likes):
            fits = all(n < 2 or a == b for n, a, b in zip(shape, stride, tangent.stride()))
            if not fits:
                ctx.held_on.append(tangent)
                dense = torch.empty_strided(
                    shape, stride, dtype=tangent.dtype, device=tangent.device
                )
                tangent = dense.copy_(tangent)
            ctx.taken.append(tangent)
        return (None,) * (len(ctx.likes) + 3)
