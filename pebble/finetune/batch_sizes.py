"""How many samples a budget holds, with and without a plan."""

from __future__ import annotations

from dataclasses import dataclass, field

from pebble.formatting import Printed, gigabytes, table
from pebble.plan.plan import Plan
from pebble.schedule import Schedule

FINE = 50
"""Batches that an allowance of compute allows are found to one part in so many."""


@dataclass(frozen=True, repr=False)
class BatchSizes(Printed):
    """How many samples a budget holds.

    Attributes
    ----------
    budget_bytes : int
    unplanned, planned : int
        Largest batch without and with a plan; 0 if not even one sample fits.
    most : int
        Largest batch that some schedule holds, at any extra compute.
    whole, whole_most : int
        The same two with the loss in one piece.
    limit : int
        No schedule of any kind holds a larger batch with the loss in one piece: one op's inputs
        and outputs, and what must be there beside them, are too large.
    unplanned_peak_bytes : int
        Of the largest batch without a plan.
    next_peak_bytes : int
        The least peak known for one sample more than `most`.
    next_overhead : float or None
        Extra compute that one sample more (2 % more, beyond 50) would take, where that is what
        `max_overhead` excludes.
    max_overhead : float or None
        Extra compute that was allowed, as a fraction.
    plan : Plan or None
        For `planned` samples.
    leanest : Schedule or None
        For `most` samples, its loss in the plan's chunks.
    """

    budget_bytes: int
    unplanned: int
    planned: int
    most: int
    whole: int
    whole_most: int
    limit: int
    unplanned_peak_bytes: int
    next_peak_bytes: int
    next_overhead: float | None
    max_overhead: float | None
    plan: Plan | None = field(default=None, repr=False, compare=False)
    leanest: Schedule | None = field(default=None, repr=False, compare=False)

    @property
    def gain(self) -> int:
        """Samples that the plan buys."""
        return self.planned - self.unplanned

    def __str__(self) -> str:
        plan, chunks = self.plan, 0 if self.plan is None else self.plan.chunks
        rows = [["no plan", str(self.unplanned), gigabytes(self.unplanned_peak_bytes), "0.0 %"]]
        if chunks:
            rows.append(["with a plan, loss in one piece", str(self.whole), "", ""])
        if plan is not None:
            name = f"with a plan, loss in {chunks} chunks" if chunks else "with a plan"
            extra = f"{100 * plan.overhead:.1f} %"
            rows.append([name, str(self.planned), gigabytes(plan.peak_bytes), extra])
        if self.most > self.planned:
            rows.append(["at any extra compute", str(self.most), "", ""])
        of_what = " with the loss in one piece" if chunks else ""
        rows.append([f"no schedule above{of_what}", str(self.limit), "", ""])
        header = ["", "batch", "peak", "extra compute"]
        if self.next_overhead is None:
            reason = f"{gigabytes(self.next_peak_bytes)}, the least known"
        else:
            reason = f"{100 * self.next_overhead:.1f} % extra compute"
        return (
            f"Within {gigabytes(self.budget_bytes)} the plan buys {self.gain} more samples; "
            f"{'one' if self.next_overhead is None or self.planned < FINE else '2 %'} more would "
            f"need {reason}.\n\n{table(header, rows)}"
        )
