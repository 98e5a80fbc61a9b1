"""Lightning's Trainer within a memory budget: `callbacks=[PebbleCallback(budget_gb=15)]`."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from pebble.errors import InvalidArgument
from pebble.integrations.lightning_loop import LightningLoop
from pebble.runtime.plan_status import PlanStatus

_FRAMEWORKS = ("lightning.pytorch", "pytorch_lightning")


class PebbleCallback:
    """Have a Lightning Trainer train within a memory budget, whatever batches its data gives.

    The LightningModule stays the object that it is, with its names and state. Every `training_step`
    follows a plan, its loss inside; validation does not. Works for ``import lightning`` and for
    ``import pytorch_lightning``.

    Parameters
    ----------
    **options
        Of `pebble.budgeted`: `budget_gb` or `budget_bytes`, `chunked_loss`, `cache` and so on. The
        optimizer and the accumulation of gradients are the trainer's.

    Raises
    ------
    InvalidArgument
        If none of the two is installed; in `fit`, if the trainer has several devices.

    Notes
    -----
    A training step that is no single graph (manual optimization, ``.item()``) runs as it is written
    with the modules that it calls planned, and `pebble.status` of the module says so. What such a
    step makes of their outputs is estimated; where it calls several modules, each is planned with
    what the others leave of the budget.

    In use: ``lightning.Trainer(callbacks=[PebbleCallback(budget_gb=15)]).fit(module, loader)``.
    """

    def __new__(cls, **options: Any) -> PebbleCallback:
        """Of a class that is also a callback of each framework that is in use."""
        return object.__new__(_as_callback(cls))

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.loop: LightningLoop | None = None
        self._last: PlanStatus | None = None

    def __repr__(self) -> str:
        told = ", ".join(f"{key}={value!r}" for key, value in self.options.items())
        return f"PebbleCallback({told})"

    @property
    def status(self) -> PlanStatus | None:
        """How the training calls went so far, or in the last fit; None before the first."""
        found = None if self.loop is None else self.loop.status()
        return found or self._last

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Optimizers and checkpoints are there: plan."""
        if self.loop is None:
            self.loop = LightningLoop(trainer, pl_module, self.options)
        self.loop.begin()

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Another callback may have changed how gradients are added up."""
        if self.loop is not None:
            self.loop.begin()

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """A plan has no room for the gradients of the step before."""
        if self.loop is not None:
            self.loop.let_gradients_go(batch_idx)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Make the module what it was."""
        self._leave()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The same where training fails."""
        self._leave()

    def _leave(self) -> None:
        if self.loop is not None:
            self._last = self.loop.status()
            self.loop.leave()
            self.loop = None


def _as_callback(cls: type) -> type:
    """The class below it that the frameworks in use take for a callback of theirs."""
    bases = [sys.modules[name].Callback for name in _FRAMEWORKS if name in sys.modules]
    if not bases:
        bases = [_import_one().Callback]
    missing = tuple(base for base in bases if not issubclass(cls, base))
    made = _made.get((cls, missing))
    if made is None:
        space = {"__doc__": cls.__doc__, "__module__": cls.__module__}
        made = _made[cls, missing] = type(cls.__name__, (cls, *missing), space) if missing else cls
    return made


_made: dict[tuple[type, tuple[type, ...]], type] = {}


def _import_one() -> Any:
    with contextlib.suppress(ModuleNotFoundError):
        import lightning.pytorch

        return lightning.pytorch
    with contextlib.suppress(ModuleNotFoundError):
        import pytorch_lightning

        return pytorch_lightning
    raise InvalidArgument(
        "PebbleCallback needs Lightning: pip install 'pebble-remat[lightning]', or use "
        "pebble.budgeted(model, ...)."
    )
