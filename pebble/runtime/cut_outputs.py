"""Outputs that have a gradient in eager, but none in a planned step: they say so when one comes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pebble.errors import PebbleError
from pebble.tracing.captured import Captured
from pebble.tracing.differentiated_outputs import short_name
from pebble.tracing.signature import OutputKind


@dataclass(frozen=True)
class CutOutputs:
    """The outputs of a step whose gradient nobody computes.

    Attributes
    ----------
    positions : tuple of int
        Among the outputs.
    names : tuple of str
    joined : tuple of bool
        Whether it shares its memory with something that is differentiated: then a change in place
        is refused, for that would not learn of it.
    """

    positions: tuple[int, ...]
    names: tuple[str, ...]
    joined: tuple[bool, ...]

    @classmethod
    def of(cls, captured: Captured) -> CutOutputs:
        """Those of a captured step."""
        outputs, value_of = captured.outputs, captured.value_of
        differentiated = {value_of[node] for node in captured.gradients}
        differentiated |= {value_of[o.node] for o in outputs if o.kind is OutputKind.DIFFERENTIABLE}
        cut = [i for i, output in enumerate(outputs) if output.kind is OutputKind.CUT]
        return cls(
            tuple(cut),
            tuple(short_name(outputs[i].name) for i in cut),
            tuple(value_of[outputs[i].node] in differentiated for i in cut),
        )

    def replace(self, outputs: list[Any], differentiated: Sequence[torch.Tensor]) -> None:
        """Give each of them a backward that raises; it holds nothing of the step.

        Parameters
        ----------
        outputs : list of Tensor
            Of the step; changed in place.
        differentiated : sequence of Tensor
            What eager would give a gradient to, so that asking for just one of these raises, too.
        """
        if self.positions:
            given = tuple(outputs[i] for i in self.positions)
            made: Any = _Cut.apply(self, given, *differentiated)  # type: ignore[no-untyped-call]
            for i, tensor in zip(self.positions, made):
                outputs[i] = tensor


class _Cut(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cut: CutOutputs, outputs: tuple[torch.Tensor, ...], *_: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.names = cut.names
        # Aliases, so that a change in place shows on what the step saved; autograd refuses to
        # change a view that a function has made.
        return tuple(
            output.view_as(output) if joined else output.detach()
            for output, joined in zip(outputs, cut.joined)
        )

    @staticmethod
    def backward(ctx: Any, *tangents: torch.Tensor | None) -> Any:
        names = [name for name, tangent in zip(ctx.names, tangents) if tangent is not None]
        if not names:
            return (None,) * len(ctx.needs_input_grad)
        raise PebbleError(
            f"A gradient reaches the output {names[0]!r} of a planned step, but the plan was made "
            f"for the gradient of the loss alone. Plan with differentiate={names!r} or "
            "differentiate='all', or detach what is not to be trained on."
        )
