"""How a step is captured: the one order of capture, chunks of the loss, and accumulation.

Whoever makes a captured step, for a plan, an estimate, another batch, a file or a copy of a
planned module, makes it here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pebble.cards import CARDS
from pebble.errors import CardWarning
from pebble.notices import warn
from pebble.options import Differentiate, StepOptions
from pebble.tracing.accumulation import accumulated
from pebble.tracing.captured import Captured, Loss
from pebble.tracing.card_twin import CardTwin, as_on
from pebble.tracing.chunked_loss import chunk_loss
from pebble.tracing.plannable import plannable
from pebble.tracing.step_capture import capture
from pebble.tracing.torch_private.card_tables import why_no_card
from pebble.tracing.unneeded_masks import masks_as_in_eager


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
    differentiate : "loss", "all", sequence of str or None
        The outputs that are differentiated.
    card : str or None
        Whose kernels the step has; None: those of the device of the model.
    """

    loss: Loss | None = None
    loss_only: bool = False
    chunks: int = 0
    accumulates: bool = False
    differentiate: Differentiate = None
    card: str | None = None

    @classmethod
    def of(cls, captured: Captured) -> StepForm:
        """The form that a step was captured in."""
        return cls(
            captured.loss,
            captured.loss_only,
            captured.chunks,
            captured.accumulates,
            captured.differentiate,
            captured.card,
        )

    @classmethod
    def asked(cls, options: StepOptions) -> StepForm:
        """The form that options ask for."""
        only = options.outputs == "loss"
        return cls(
            options.loss,
            only,
            options.chunks,
            options.accumulates,
            options.differentiate,
            options.card,
        )

    def capture(self, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Captured:
        """A step of this form, captured on these inputs.

        Raises
        ------
        CaptureError, InvalidArgument
        """
        if self.card is None or not _can_pretend(self.card):
            return self.transform(self._captured(model, args, kwargs, self.loss))
        twin = CardTwin.of(plannable(model), args, kwargs, self.loss)
        with as_on(self.card):
            captured = self._captured(twin.model, twin.args, twin.kwargs, twin.loss)
            return self.transform(replace(captured, card=self.card, loss=self.loss))

    def _captured(
        self, model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], loss: Loss | None
    ) -> Captured:
        on_card = any(t.is_cuda for t in getattr(model, "parameters", tuple)())
        with masks_as_in_eager() if on_card else contextlib.nullcontext():
            return capture(
                model,
                args,
                kwargs,
                loss=loss,
                loss_only=self.loss_only,
                differentiate=self.differentiate,
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


def _can_pretend(card: str) -> bool:
    reason = why_no_card()
    if reason is not None:
        warn(
            f"A step on a {CARDS[card].title} cannot be traced here: {reason}. It is planned for "
            "the CPU's kernels, at that card's speed; the plan cannot be applied on the card.",
            CardWarning,
        )
    return reason is None
