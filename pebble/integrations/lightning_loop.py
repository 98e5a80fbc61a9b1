"""What Lightning's loop does around a training step, and the plans that follow from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pebble.errors import CaptureError, InvalidArgument, PlanMismatch
from pebble.integrations.inner_plans import InnerPlans, together
from pebble.integrations.loop_memory import SCALARS, bytes_on
from pebble.integrations.training_step import TrainingStep, logging_aside, without_unread
from pebble.plan.budgeted import budgeted
from pebble.plan.replanning import Replanner
from pebble.runtime.follower import follower_of
from pebble.runtime.plan_status import PlanStatus
from pebble.runtime.planned_method import PlannedMethod

logger = logging.getLogger("pebble")

_LOOPS_OWN = ("optimizer", "loss", "outputs", "accumulation_steps")


@dataclass(frozen=True)
class Facts:
    """What a plan depends on in a trainer.

    Attributes
    ----------
    automatic : bool
        Whether the trainer calls backward and the optimizer.
    zeroes : bool
        Whether the trainer lets the gradients of a step go, as Lightning wrote it.
    accumulates : bool
        Whether gradients are there while a step runs its forward.
    """

    automatic: bool
    zeroes: bool
    accumulates: bool

    @classmethod
    def of(cls, trainer: Any, module: Any) -> Facts:
        """Those of a trainer and its module.

        Raises
        ------
        InvalidArgument
            If it trains in a way that no plan can be made for.
        """
        kinds = {kind.__name__ for kind in type(trainer.strategy).__mro__}
        if "SingleDeviceStrategy" not in kinds or trainer.world_size != 1:
            raise InvalidArgument(
                "PebbleCallback plans for one device; this Trainer has the strategy "
                f"{type(trainer.strategy).__name__}. Pass devices=1, or plan the model inside the "
                "LightningModule with pebble.budgeted."
            )
        if getattr(module, "_compiler_ctx", None) is not None:
            raise InvalidArgument(
                "The LightningModule is compiled, which would compile around the plan. Pass the "
                "module as it was before torch.compile."
            )
        automatic = bool(module.automatic_optimization)
        zeroes = automatic and _is_lightnings(module, "optimizer_zero_grad")
        return cls(automatic, zeroes, not zeroes or trainer.accumulate_grad_batches > 1)


class LightningLoop:
    """A Lightning trainer whose training step follows plans.

    Parameters
    ----------
    trainer : Trainer
    module : LightningModule
    options : mapping
        Of `pebble.budgeted`.

    Raises
    ------
    InvalidArgument
    """

    def __init__(self, trainer: Any, module: Any, options: Mapping[str, Any]) -> None:
        for name in _LOOPS_OWN:
            if name in options:
                raise InvalidArgument(
                    f"PebbleCallback reads {name} from the Trainer; leave it out."
                )
        self.trainer = trainer
        self.module = module
        self.options = dict(options)
        self.facts: Facts | None = None
        self.method: PlannedMethod | None = None
        self.inner: InnerPlans | None = None
        self.before: PlanStatus | None = None  # of calls by plans that have been given up

    def begin(self) -> None:
        """Plan the training step, or the modules inside of it where it is no single graph."""
        facts = Facts.of(self.trainer, self.module)
        if facts == self.facts:
            return
        self.before = self.status()
        self.leave()
        self.facts = facts
        if facts.automatic:
            self._plan_step()
        else:
            self._plan_inside("its optimization is manual")

    def let_gradients_go(self, batch_idx: int) -> None:
        """Those of the step before; Lightning keeps them until this step's forward is over."""
        assert self.facts is not None
        begins = batch_idx % self.trainer.accumulate_grad_batches == 0
        if begins and self.facts.zeroes:
            for optimizer in self.trainer.optimizers:
                optimizer.zero_grad(set_to_none=True)

    def leave(self) -> None:
        """Make the module what it was."""
        if self.method is not None:
            self.method.leave()
        if self.inner is not None:
            self.inner.leave()
        self.method = self.inner = self.facts = None

    def status(self) -> PlanStatus | None:
        """How the calls went so far; of the modules inside, if those are planned."""
        found = [] if self.before is None else [self.before]
        if self.method is not None:
            found.append(follower_of(self.method.planned).status("training_step"))
        if self.inner is not None:
            found += self.inner.statuses()
        return together(found) if found else None

    # -- the step as a whole ---------------------------------------------------------------------

    def _plan_step(self) -> None:
        assert self.facts is not None
        planned = budgeted(
            TrainingStep(self.module),
            **self.options | {"level": "graph"},  # else the modules inside are planned
            optimizer=_known(self.trainer.optimizers),
            accumulation_steps=2 if self.facts.accumulates else 1,
        )
        planner = getattr(follower_of(planned), "planner", None)
        assert isinstance(planner, Replanner)
        planner.held_bytes = self._held_bytes
        self.method = PlannedMethod(self.module, "training_step", self._step, planned)

    def _step(self, *args: Any) -> Any:
        """A training step by its plan, and what it logs."""
        assert self.method is not None
        try:
            with logging_aside(self.module):
                made = self.method.planned(*without_unread(self.module, args))
        except (CaptureError, PlanMismatch) as error:
            self.before = self.status()
            self.method.leave()
            self.method = None
            self._plan_inside(str(error))
            return self.module.training_step(*args)
        for name, value, more, options in made["logged"]:
            self.module.log(name, value, *more, **options)
        return made["output"]

    def _held_bytes(self) -> int:
        """Of the batches that are fetched ahead, and of the scalars that are logged."""
        fetcher = getattr(self.trainer.fit_loop, "_data_fetcher", None)
        ahead = getattr(fetcher, "batches", None) or ()
        return bytes_on(list(ahead), self.trainer.strategy.root_device) + SCALARS

    # -- the modules inside ----------------------------------------------------------------------

    def _plan_inside(self, reason: str) -> None:
        assert self.facts is not None
        self.inner = InnerPlans(
            self.module,
            self.options,
            optimizers=[_known([o]) for o in self.trainer.optimizers],
            accumulation_steps=2 if self.facts.accumulates else 1,
            reason=reason,
            held_bytes=self._held_bytes,
        )
        self.inner.enter()


def _known(optimizers: list[Any]) -> str | torch.optim.Optimizer | None:
    """The optimizer whose memory is counted; another's is counted as AdamW's."""
    if len(optimizers) != 1:
        return "adamw" if optimizers else None
    own = optimizers[0]
    if isinstance(own, torch.optim.Optimizer) and type(own).__module__.startswith("torch.optim"):
        return own
    return "adamw"


def _is_lightnings(module: nn.Module, name: str) -> bool:
    """Whether a method is as Lightning wrote it."""
    home = getattr(getattr(type(module), name), "__module__", "")
    return name not in vars(module) and home.startswith(("lightning.", "pytorch_lightning."))
