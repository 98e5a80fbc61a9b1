"""Hugging Face's Trainer within a memory budget: `budgeted(trainer, budget_gb=15)`."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from types import FrameType
from typing import Any

from pebble.errors import InvalidArgument
from pebble.integrations.trainer_loop import TrainerLoop
from pebble.integrations.trl_losses import awaits_head

logger = logging.getLogger("pebble")


def budgeted(trainer: Any, **options: Any) -> Any:
    """Have a Trainer train within a memory budget, whatever batches its data gives.

    The trainer and its model are changed in place: both stay the objects that they are, with the
    model's class, names and state. Every training step follows a plan; evaluation does not.

    Parameters
    ----------
    trainer : transformers.Trainer
    **options
        Of `pebble.budgeted`: `budget_gb` or `budget_bytes`, `chunked_loss`, `cache` and so on. The
        optimizer, the accumulation of gradients and the outputs that are needed are the trainer's.

    Returns
    -------
    transformers.Trainer
        The same one. Its logs also tell how the plans went (``pebble_...``); see `pebble.status`
        of ``trainer.model``.

    Raises
    ------
    InvalidArgument

    Notes
    -----
    Gradient checkpointing is switched off: what is recomputed is planned. Where the trainer takes
    the model's own loss, its training calls hand over the loss alone. Another loss (label
    smoothing, `compute_loss_func`, an own `compute_loss`) runs as it is written, outside of the
    plan, and its bytes are counted.
    """
    add_callback = getattr(trainer, "add_callback", None)
    if add_callback is None or not hasattr(trainer, "compute_loss"):
        raise InvalidArgument(
            f"budgeted takes a transformers.Trainer here, not a {type(trainer).__name__}; for a "
            "model there is pebble.budgeted(model, ...)."
        )
    handler, callback = trainer.callback_handler, PebbleCallback(**options)
    others = [c for c in handler.callbacks if isinstance(c, PebbleCallback)]
    for other in others:
        other.leave()
        handler.callbacks.remove(other)
    callback.begin(trainer)
    handler.callbacks.insert(0, callback)  # it adds to the logs before others read them
    return trainer


class PebbleCallback:
    """The same as `budgeted`, as one of a Trainer's callbacks.

    Parameters
    ----------
    **options
        As in `budgeted`.

    Examples
    --------
    >>> PebbleCallback(budget_gb=15)  # doctest: +ELLIPSIS
    PebbleCallback(budget_gb=15)
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.loop: TrainerLoop | None = None

    def __repr__(self) -> str:
        told = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        return f"PebbleCallback({told})"

    def __getattr__(self, name: str) -> Any:
        """Every other event that Trainer has: nothing to do."""
        if name.startswith("on_"):
            return _nothing
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def begin(self, trainer: Any) -> None:
        """Plan for a trainer, or see to it that what it is about to train is planned."""
        if self.loop is None:
            self.loop = TrainerLoop(trainer, self.options)
        if self.loop.trainer is not trainer:
            raise InvalidArgument(
                "This PebbleCallback plans for another Trainer already; make one for each."
            )
        self.loop.begin()

    def leave(self) -> None:
        """Make the trainer and its model what they were."""
        if self.loop is not None:
            self.loop.leave()
            self.loop = None

    def on_init_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The trainer is complete: plan for it."""
        trainer = _calling_trainer(self)
        if not awaits_head(trainer):
            self.begin(trainer)
        trainer.callback_handler.callbacks.remove(self)  # first: before others read the logs
        trainer.callback_handler.callbacks.insert(0, self)

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """The model may be a new one, and its checkpointing switched on again."""
        self.begin(_calling_trainer(self) if self.loop is None else self.loop.trainer)
        assert self.loop is not None
        self.loop.take_optimizer(given.get("optimizer"))

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """Add how the plans went."""
        if logs is not None and self.loop is not None:
            figures: Mapping[str, Any] = self.loop.figures()
            logs.update(figures)
            if state.log_history and state.log_history[-1].get("step") == state.global_step:
                state.log_history[-1].update(figures)


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _calling_trainer(callback: PebbleCallback) -> Any:
    """The trainer whose event this is: a callback is handed its parts, but not the trainer."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals.get("self")
        handler = getattr(found, "callback_handler", None)
        if handler is not None and any(c is callback for c in handler.callbacks):
            return found
        frame = frame.f_back
    raise InvalidArgument(
        "PebbleCallback found no Trainer that calls it. Use "
        "pebble.integrations.transformers.budgeted(trainer, budget_gb=...)."
    )
