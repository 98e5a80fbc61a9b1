"""What an explanation compares a plan with: other budgets, and other ways to train."""

from __future__ import annotations

from dataclasses import dataclass

from pebble.formatting import gigabytes


@dataclass(frozen=True)
class BudgetPrice:
    """The same step within another budget.

    Attributes
    ----------
    change_bytes : int
        Of the budget; negative for less.
    budget_bytes : int
    overhead : float or None
        Extra compute of the best plan found, as a fraction: the least is at most that. None where
        none was found.
    plan_overhead : float
        That of the plan.
    proved : bool
        Without a plan: whether it is proved that there is none.
    """

    change_bytes: int
    budget_bytes: int
    overhead: float | None
    plan_overhead: float
    proved: bool = False

    def __str__(self) -> str:
        size = gigabytes(abs(self.change_bytes))
        if self.overhead is None:
            why = "nothing fits, which is proved" if self.proved else "no plan was found"
            return f"{size} less ({gigabytes(self.budget_bytes)}): {why}"
        points = 100 * (self.overhead - self.plan_overhead)
        if self.change_bytes > 0:
            spared = f"spares {max(-points, 0):.2f} points of compute or more"
            return f"{size} more ({gigabytes(self.budget_bytes)}): {spared}, to {self._left}"
        return (
            f"{size} less ({gigabytes(self.budget_bytes)}): costs {max(points, 0):.2f} points "
            f"of compute at most, to {self._left}"
        )

    @property
    def _left(self) -> str:
        return f"{100 * (self.overhead or 0):.2f} %"


@dataclass(frozen=True)
class Change:
    """Another way to train, with a plan of its own within the same budget.

    Attributes
    ----------
    name : str
    unplanned_peak_bytes : int
        Of its step without a plan.
    saved_bytes : int
        By how much that is below the peak of the step as it is, without a plan; negative where it
        is above it (gradients that wait for those of other micro-batches).
    overhead : float or None
        Extra compute of a plan for it within the same budget, as a fraction: over the step as it
        is, and for adapters over their own. None where no plan was found that fits.
    estimated : bool
        Whether the temporaries of kernels are left out, on both sides.
    """

    name: str
    unplanned_peak_bytes: int
    saved_bytes: int
    overhead: float | None
    estimated: bool = False
