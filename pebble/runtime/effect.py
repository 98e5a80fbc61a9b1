"""Whether a plan is in effect: how calls went, each kind of trouble told once."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from pebble.errors import BudgetNotKept, PebbleError, PebbleWarning, PlanMismatch, PlanNotInEffect
from pebble.notices import warn
from pebble.runtime.plan_status import PlanStatus
from pebble.runtime.planned_step import PlannedStep
from pebble.runtime.promise import Promise
from pebble.runtime.side_entrances import SideEntrances
from pebble.runtime.thread_fits import ThreadFit
from pebble.tracing.torch_private.modules import has_global_hooks


class Effect:
    """How the calls of one planned module went. Not copied or pickled with it: counts start anew.

    Where it has several plans, they share this.

    Attributes
    ----------
    planned : int
        Training calls that followed the plan.
    evaluations : int
        Calls in evaluation mode or without gradients.
    unplanned : dict of str to int
        Training calls that ran without the plan, by reason.
    plans : int
        Made by calls of the module.
    planning_seconds : float
    inside : int
        How many of the model's own forwards are running.
    """

    def __init__(self) -> None:
        self.planned = 0
        self.evaluations = 0
        self.unplanned: dict[str, int] = {}
        self.plans = 0
        self.planning_seconds = 0.0
        self.inside = 0
        self.entrances = SideEntrances(self.entered)
        self._told: set[str] = set()
        self._steps: weakref.WeakSet[PlannedStep] = weakref.WeakSet()

    def __reduce__(self) -> tuple[Any, ...]:
        return Effect, ()

    def status(self, model: str, promises: Sequence[Promise]) -> PlanStatus:
        """The counts as a record, for a model of this name and what its plans promise."""
        device = torch.device(promises[0].device if promises else "cpu")
        counted = device.type == "cuda" and torch.cuda.is_available()
        peaks = [p.peak_bytes for p in promises if p.peak_bytes is not None]
        return PlanStatus(
            model=model,
            planned_calls=self.planned,
            unplanned_calls=sum(self.unplanned.values()),
            reasons=dict(self.unplanned),
            evaluation_calls=self.evaluations,
            predicted_peak_bytes=max(peaks, default=None),
            measured_peak_bytes=torch.cuda.max_memory_allocated(device) if counted else None,
            members=len(promises),
            plans_made=self.plans,
            planning_seconds=self.planning_seconds,
        )

    def planned_again(self, seconds: float) -> None:
        """A call of the module has made a plan."""
        self.plans += 1
        self.planning_seconds += seconds

    def fell_back(self, module: nn.Module, mismatch: PlanMismatch) -> None:
        """A training call runs without its plan, because something differs."""
        name = type(module).__name__
        self._count(
            mismatch.reason,
            f"A training call of the planned {name} runs without its plan, so its memory is not "
            f"that of the plan: {mismatch.difference} Plan again with pebble.optimize for such "
            "calls.",
        )

    def entered(self, owner: str, name: str, plannable: bool) -> None:
        """A training call went to a part of the planned module, past its forward."""
        then = "The next such call takes a plan of its own, within the same budget. "
        self._count(
            f"{name!r} was called past the forward",
            f"A training call went to {name!r} inside the planned {owner} and not through the "
            f"forward of {owner}, so it runs without the plan. {then if plannable else ''}Call the "
            f"planned module itself, or plan the module that is called (pebble.optimize of a "
            "module whose forward does what the loop calls).",
        )

    def part_not_planned(self, part: nn.Module, error: PebbleError) -> None:
        """A part that is called past the forward has no plan of its own, either."""
        name = type(part).__name__
        self._count(
            f"{name} inside the planned module has no plan of its own",
            f"A training call goes to {name} inside a planned module, past the forward that was "
            f"planned, and runs without a plan: {error}",
        )

    def begins(
        self, module: nn.Module, fit: ThreadFit, step: PlannedStep, tensors: list[torch.Tensor]
    ) -> None:
        """A planned call begins: tell what its plan did not count."""
        told, name, promise = self._told, f"The planned {type(module).__name__}", fit.promise
        self._steps.add(step)
        if "threads" not in told:
            self._tell("threads", name, fit.told, fit.kind)
        if "gradients" not in told:
            there = promise.gradients_there([tensors[i] for i in step.differentiated])
            self._tell("gradients", name, there, BudgetNotKept)
        if "ranks" not in told:
            wrapped = promise.wrapped_otherwise([tensors[i] for i in step.differentiated])
            self._tell("ranks", name, wrapped, BudgetNotKept)
        if "calls" not in told:
            waiting = [tape for known in self._steps for tape in known.waiting()]
            many = promise.calls_in_flight(waiting, tensors, step.differentiated)
            self._tell("calls", name, many, BudgetNotKept)
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
