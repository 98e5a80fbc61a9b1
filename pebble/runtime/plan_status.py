"""How the calls of a planned module went so far, as a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pebble.formatting import Printed, count, gigabytes


@dataclass(frozen=True, repr=False)
class PlanStatus(Printed):
    """How the calls of a planned module went so far.

    Attributes
    ----------
    model : str
        Its class.
    planned_calls : int
        Training calls that followed the plan.
    unplanned_calls : int
        Training calls that did not.
    reasons : mapping of str to int
        Why, and how often.
    evaluation_calls : int
        Calls in evaluation mode or without gradients, which no plan is made for.
    predicted_peak_bytes : int or None
        Of the whole step, the largest of all plans; None for a module that no `Plan` was applied
        to.
    measured_peak_bytes : int or None
        The most that torch's allocator held on the plan's device since its statistics were last
        reset (``torch.cuda.reset_peak_memory_stats()`` before a step gives the peak of that step).
        None on the CPU, where it keeps none.
    members : int
        Plans that the module has, one a form of inputs (see `pebble.budgeted`).
    plans_made : int
        Those that calls of the module have made.
    planning_seconds : float
        What that took.
    checked : str
        Whether the planned step was compared with eager's: "equal" (bit for bit), "equal up to
        rounding", "due at the first planned call", "skipped: " and why, or "off".
    scope : str
        Why this module is planned and not the whole step around it; empty where nothing was wider.

    Examples
    --------
    >>> print(PlanStatus("Net", 3, 1, {"'x' was planned with shape [8]": 1}, 0, 2_000_000, None))
    plan of Net: 3 calls planned, 1 un-planned, 0 in evaluation; step of 2.00 MB predicted
      1 un-planned: 'x' was planned with shape [8]
    """

    model: str
    planned_calls: int
    unplanned_calls: int
    reasons: Mapping[str, int] = field(hash=False)
    evaluation_calls: int
    predicted_peak_bytes: int | None
    measured_peak_bytes: int | None
    members: int = 1
    plans_made: int = 0
    planning_seconds: float = 0.0
    checked: str = "off"
    scope: str = ""

    @property
    def in_effect(self) -> bool:
        """Whether there was a training call, and all of them followed the plan."""
        return self.planned_calls > 0 and self.unplanned_calls == 0

    @property
    def summary(self) -> str:
        """Counts and bytes in one line."""
        text = (
            f"{self.planned_calls} calls planned, {self.unplanned_calls} un-planned, "
            f"{self.evaluation_calls} in evaluation"
        )
        if self.predicted_peak_bytes is not None:
            text += f"; step of {gigabytes(self.predicted_peak_bytes)} predicted"
        if self.measured_peak_bytes is not None:
            text += f", {gigabytes(self.measured_peak_bytes)} measured on the device"
        if self.plans_made:
            made = count(self.plans_made, "plan")
            text += f"; {made} made by calls in {self.planning_seconds:.1f} s"
        return text

    def __str__(self) -> str:
        why = [f"  {count} un-planned: {reason}" for reason, count in self.reasons.items()]
        if self.scope:
            why.append(f"  {self.scope}")
        if self.checked != "off":
            why.append(f"  compared with eager: {self.checked}")
        return "\n".join([f"plan of {self.model}: {self.summary}", *why])
