"""Is a planned step eager's step? Asked once, before anybody trains by it."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import nn

from pebble.budget import Resident, Unplanned
from pebble.errors import InvalidArgument, PebbleError, PlanIsWrong, PlanMismatch
from pebble.formatting import gigabytes
from pebble.measure.costs import op_costs
from pebble.runtime.agreement import Agreement
from pebble.runtime.bench import Bench
from pebble.runtime.device_room import room_bytes
from pebble.runtime.eager_comparison import compare_with_eager, results
from pebble.runtime.random_states import random_states_kept
from pebble.runtime.step_twin import StepTwin
from pebble.schedule import Schedule
from pebble.tracing.captured import Captured
from pebble.tracing.inputs import Inputs
from pebble.verdict import Checked, Verdict

SECONDS = 1.0
"""A planned and an eager step together, up to which a plan is checked as soon as it is made."""

_STEPS = 2.5  # a planned step, which computes some things twice, and an eager one


class Planned(Protocol):
    """What a check must know of a plan."""

    @property
    def schedule(self) -> Schedule:
        """By which the step runs."""

    @property
    def unplanned(self) -> Unplanned:
        """The step without a plan."""

    @property
    def resident(self) -> Resident:
        """What no schedule changes."""

    @property
    def budget_bytes(self) -> int:
        """For the whole step."""


@dataclass(frozen=True)
class StepCheck:
    """A planned step that is to be compared with eager's.

    Attributes
    ----------
    schedule : Schedule
    eager_bytes : int
        Predicted peak of the step without a plan; bytes here are those of the whole step.
    resident_bytes : int
    budget_bytes : int or None
        That the comparison keeps to; None: what the device has.
    captured : Captured or None
        None in a file: then to be traced again.
    """

    schedule: Schedule = field(repr=False)
    eager_bytes: int
    resident_bytes: int
    budget_bytes: int | None = None
    captured: Captured | None = field(default=None, repr=False)

    @classmethod
    def of(cls, plan: Planned, captured: Captured) -> StepCheck:
        """The check of a plan on a captured step."""
        return cls(
            plan.schedule,
            plan.unplanned.peak_bytes,
            plan.resident.total,
            plan.budget_bytes,
            captured,
        )

    def run(self, model: nn.Module, inputs: Inputs, *, within_budget: bool = False) -> Verdict:
        """Compare the two steps on a model and its inputs, which are afterwards what they were.

        Skipped where they cannot be run beside what is there.

        Parameters
        ----------
        within_budget : bool
            Let an eager step take no more than the budget.

        Raises
        ------
        PlanIsWrong
        """
        reason = self._no_room(within_budget)
        if reason:
            return Verdict(Checked.SKIPPED, reason)
        return self._attempt(model, inputs, None)

    def run_if_short(self, model: nn.Module, inputs: Inputs, seconds_left: float) -> Verdict:
        """The same, or put off where the two steps take longer than `SECONDS` or what is left."""
        assert self.captured is not None
        seconds = min(SECONDS, seconds_left)
        if self.captured.fake or self._no_room(within_budget=False):
            return Verdict(Checked.DUE)
        if _STEPS * sum(op_costs(self.captured, "auto")) > 1e9 * seconds:
            return Verdict(Checked.DUE)
        return self._attempt(model, inputs, seconds)

    def insist(self, model: nn.Module, inputs: Inputs) -> Verdict:
        """The same, however long it takes.

        Raises
        ------
        PlanIsWrong
        InvalidArgument
            If the two steps cannot be run.
        """
        assert self.captured is not None
        if self.captured.fake:
            raise InvalidArgument(
                "A plan made on fake tensors cannot be compared with eager: neither step can be "
                "run. Plan the real model, or leave check out: it is then compared at the first "
                "planned call."
            )
        verdict = self._attempt(model, inputs, None)
        if verdict.state is Checked.SKIPPED:
            raise InvalidArgument(
                f"This plan of {type(model).__name__} cannot be compared with eager: "
                f"{verdict.reason} Pass check=False to do without."
            )
        return verdict

    def _no_room(self, within_budget: bool) -> str:
        """A sentence where an eager step has no room."""
        captured = self.captured
        assert captured is not None
        device = torch.device(captured.device)
        # On the host: contents to be put back, and what the first of the two steps left behind.
        aside = 2 * self.resident_bytes
        whole = self.eager_bytes + (aside if device.type == "cpu" else 0)
        if within_budget and self.budget_bytes is not None and whole > self.budget_bytes:
            return (
                f"an eager step beside it needs {gigabytes(whole)}, above the budget of "
                f"{gigabytes(self.budget_bytes)}."
            )
        for place, needed in ((device, whole - self.resident_bytes), (torch.device("cpu"), aside)):
            room = room_bytes(place)
            if room is not None and needed > room:
                return (
                    f"an eager step beside it needs {gigabytes(needed)} more on {place}, which "
                    f"has {gigabytes(room)}."
                )
        return ""

    def _attempt(self, model: nn.Module, inputs: Inputs, seconds: float | None) -> Verdict:
        with warnings.catch_warnings(), torch.enable_grad(), torch.inference_mode(False):
            warnings.simplefilter("ignore")  # of the model: its own call tells them
            try:
                return self._compare(model, inputs, seconds)
            except torch.OutOfMemoryError:
                return Verdict(Checked.SKIPPED, "an eager step beside it found no memory.")

    def _compare(self, model: nn.Module, inputs: Inputs, seconds: float | None) -> Verdict:
        captured = self.captured
        assert captured is not None
        try:
            twin = StepTwin.of(model, captured, inputs)
        except InvalidArgument as error:
            return Verdict(Checked.SKIPPED, str(error))
        with twin.restored(), random_states_kept(twin.device):
            eager = Bench(twin)
            began = time.perf_counter()
            try:
                expected = results(eager)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                what = f"eager itself fails on these inputs ({type(error).__name__}: {error})."
                return Verdict(Checked.SKIPPED, what)
            if seconds is not None and _STEPS * (time.perf_counter() - began) > seconds:
                return Verdict(Checked.DUE)
            try:
                planned = Bench(twin.fresh(), self.schedule)
                agreement = compare_with_eager(planned, eager, expected)
            except PlanMismatch as error:  # which every call says as well
                return Verdict(Checked.SKIPPED, str(error))
            except (PebbleError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                raise PlanIsWrong(
                    f"The planned step of {type(model).__name__} fails where eager does not: "
                    f"{type(error).__name__}: {error}. {_ADVICE}"
                ) from error
        check_agreement(agreement, model)
        return Verdict(Checked.EQUAL if agreement.bitwise else Checked.ROUNDED)

    def on(self, captured: Captured) -> StepCheck:
        """The same check of a step that was traced again."""
        return replace(self, captured=captured)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"captured": None}


_ADVICE = (
    "It must not train. Change that part of the forward (state in Python, writes in place and "
    "views are what tracers read wrongly most often), or run the model without a plan; "
    "check=False hands the plan over all the same."
)


def check_agreement(agreement: Agreement, model: nn.Module) -> None:
    """Raise `PlanIsWrong` where a planned step differs from eager's by more than rounding."""
    differs = agreement.wrong
    if differs is None:
        return
    raise PlanIsWrong(
        f"The planned step of {type(model).__name__} is not eager's: {differs}. {_ADVICE}",
        name=differs.name,
        relative=differs.relative,
    )
