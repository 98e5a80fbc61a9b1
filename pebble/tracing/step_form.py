"""How a step is captured: the one order of capture, chunks of the loss, and accumulation.

Whoever makes a captured step, for a plan, an estimate, another batch, a file or a copy of a
planned module, makes it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pebble.options import StepOptions
from pebble.tracing.accumulation import accumulated
from pebble.tracing.captured import Captured, Loss
from pebble.tracing.chunked_loss import chunk_loss
from pebble.tracing.step_capture import capture


@dataclass(frozen=True)
class StepForm:
    """What of a captured step the model and its inputs do not say.

    Attributes
    ----------
    loss : callable or None
    loss_only : bool
    chunks : int
        Of the head and the loss; 0: in one piece.
    accumulates : bool
    """

    loss: Loss | None = None
    loss_only: bool = False
    chunks: int = 0
    accumulates: bool = False

    @classmethod
    def of(cls, captured: Captured) -> StepForm:
        """The form that a step was captured in."""
        return cls(captured.loss, captured.loss_only, captured.chunks, captured.accumulates)

    @classmethod
    def asked(cls, options: StepOptions) -> StepForm:
        """The form that options ask for."""
        only = options.outputs == "loss"
        return cls(options.loss, only, options.chunks, options.accumulates)

    def capture(self, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Captured:
        """A step of this form, captured on these inputs.

        Raises
        ------
        CaptureError, InvalidArgument
        """
        return self.transform(
            capture(model, args, kwargs, loss=self.loss, loss_only=self.loss_only)
        )

    def transform(self, captured: Captured) -> Captured:
        """A captured step with its loss in chunks and its gradients added up, as this form says.

        Raises
        ------
        InvalidArgument
            If the step has no loss that can be split so; says what stands in the way.
        """
        if self.chunks:
            captured = chunk_loss(captured, self.chunks)
        return accumulated(captured) if self.accumulates else captured
