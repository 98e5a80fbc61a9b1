"""How the calls of a planned module went so far, as a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pebble.formatting import gigabytes


@dataclass(frozen=True)
class PlanStatus:
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
        Of the whole step; None for a module that no `Plan` was applied to.
    measured_peak_bytes : int or None
        The most that torch's allocator held on the plan's device since its statistics were last
        reset (``torch.cuda.reset_peak_memory_stats()`` before a step gives the peak of that step).
        None on the CPU, where it keeps none.

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
        return text

    def __str__(self) -> str:
        why = [f"  {count} un-planned: {reason}" for reason, count in self.reasons.items()]
        return "\n".join([f"plan of {self.model}: {self.summary}", *why])
