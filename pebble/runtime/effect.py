"""Whether a plan is in effect: how calls went, each kind of trouble told once."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pebble.errors import BudgetNotKept, PebbleWarning, PlanMismatch, PlanNotInEffect
from pebble.notices import warn
from pebble.runtime.plan_status import PlanStatus
from pebble.runtime.planned_step import PlannedStep
from pebble.runtime.promise import Promise
from pebble.runtime.side_entrances import SideEntrances
from pebble.tracing.torch_private.modules import has_global_hooks


class Effect:
    """How the calls of one planned module went. Not copied or pickled with it: counts start anew.

    Attributes
    ----------
    promise : Promise
    planned : int
        Training calls that followed the plan.
    evaluations : int
        Calls in evaluation mode or without gradients.
    unplanned : dict of str to int
        Training calls that ran without the plan, by reason.
    inside : int
        How many of the model's own forwards are running.
    """

    def __init__(self, promise: Promise) -> None:
        self.promise = promise
        self.planned = 0
        self.evaluations = 0
        self.unplanned: dict[str, int] = {}
        self.inside = 0
        self.entrances = SideEntrances(self.entered)
        self._told: set[str] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return Effect, (self.promise,)

    def status(self, model: str) -> PlanStatus:
        """The counts as a record, for a model of this name."""
        device = torch.device(self.promise.device)
        counted = device.type == "cuda" and torch.cuda.is_available()
        return PlanStatus(
            model=model,
            planned_calls=self.planned,
            unplanned_calls=sum(self.unplanned.values()),
            reasons=dict(self.unplanned),
            evaluation_calls=self.evaluations,
            predicted_peak_bytes=self.promise.peak_bytes,
            measured_peak_bytes=torch.cuda.max_memory_allocated(device) if counted else None,
        )

    def fell_back(self, module: nn.Module, mismatch: PlanMismatch) -> None:
        """A training call runs without its plan, because something differs."""
        name = type(module).__name__
        self._count(
            mismatch.reason,
            f"A training call of the planned {name} runs without its plan, so its memory is not "
            f"that of the plan: {mismatch.difference} Plan again with pebble.optimize for such "
            "calls.",
        )

    def entered(self, owner: str, name: str) -> None:
        """A training call went to a part of the planned module, past its forward."""
        self._count(
            f"{name!r} was called past the forward",
            f"A training call went to {name!r} inside the planned {owner} and not through the "
            f"forward of {owner}, so it runs without the plan. Call the planned module itself, or "
            f"plan the module that is called (pebble.optimize of a module whose forward does what "
            "the loop calls).",
        )

    def begins(self, module: nn.Module, step: PlannedStep, tensors: list[torch.Tensor]) -> None:
        """A planned call begins: tell what its plan did not count."""
        told, name = self._told, f"The planned {type(module).__name__}"
        promise = self.promise
        if "threads" not in told:
            self._tell("threads", name, promise.other_threads(), BudgetNotKept)
        if "gradients" not in told:
            there = promise.gradients_there([tensors[i] for i in step.differentiated])
            self._tell("gradients", name, there, BudgetNotKept)
        if "calls" not in told:
            self._tell("calls", name, promise.calls_in_flight(step, tensors), BudgetNotKept)
        if "hooks" not in told and has_global_hooks():
            what = (
                "runs under a global module hook, which sees the whole model's call only: a "
                "planned step executes ops, not submodules."
            )
            self._tell("hooks", name, what, PebbleWarning)
        self.planned += 1

    def _count(self, reason: str, text: str) -> None:
        self.unplanned[reason] = self.unplanned.get(reason, 0) + 1
        if self.unplanned[reason] == 1:
            warn(text, PlanNotInEffect)

    def _tell(self, key: str, subject: str, what: str | None, kind: type[PebbleWarning]) -> None:
        if what is not None:
            self._told.add(key)
            warn(f"{subject} {what}", kind)
