"""What a solver returns and reports, and what is known once the referee has judged it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pebble.problem import Objective, Problem
from pebble.referee import Trace
from pebble.schedule import FREE_ORDER, Schedule, Scope


class Status(StrEnum):
    """What is known after a solve. Derived from the replay, never claimed by a solver."""

    OPTIMAL = "optimal"
    """The replayed cost meets a proved lower bound in whose scope the schedule lies."""
    FEASIBLE = "feasible"
    """The replayed peak is within the budget."""
    INFEASIBLE = "infeasible"
    """Proved: no schedule in the bound's scope fits the budget."""
    NOT_FOUND = "not_found"
    """No schedule within the budget was found; there may be one."""


@dataclass(frozen=True)
class Answer:
    """What a solver returns.

    Parameters
    ----------
    schedule : Schedule or None
        Its best schedule; one over the budget is welcome where it found none within.
    lower_bound : int
        A proved bound on the objective for every schedule in `scope` that fits the budget.
    scope : Scope
        What the bound (or the proof of infeasibility) speaks of.
    infeasible : bool
        Proved: no schedule in `scope` fits the budget.
    message : str
        One sentence for people, such as why there is no schedule.
    """

    schedule: Schedule | None
    lower_bound: int = 0
    scope: Scope = FREE_ORDER
    infeasible: bool = False
    message: str = ""


@dataclass(frozen=True)
class Progress:
    """The state of a running solve, as reported to the caller.

    Attributes
    ----------
    seconds : float
        Since the solve began.
    incumbent : int or None
        Cost of the best schedule within the budget.
    bound : int
        Best proved lower bound on the cost.
    source : str
        Who found it.
    """

    seconds: float
    incumbent: int | None
    bound: int
    source: str

    @property
    def gap(self) -> float | None:
        """Incumbent over bound, less one."""
        return None if self.incumbent is None else relative_gap(self.incumbent, self.bound)

    def __str__(self) -> str:
        incumbent = "-" if self.incumbent is None else f"{self.incumbent:,}"
        gap = "-" if self.gap is None else f"{self.gap:.3%}"
        return (
            f"{self.seconds:7.1f} s  incumbent {incumbent}  bound {self.bound:,}  gap {gap}  "
            f"({self.source})"
        )


@dataclass(frozen=True)
class Result:
    """A judged answer.

    Attributes
    ----------
    problem : Problem
    solver : str
    status : Status
    schedule, trace : the schedule and its replay, or None if none fits the budget
    lower_bound : int
        On the objective. At least what running every op once costs (for the cost objective) or
        the largest working set (for the peak objective); those hold in free order.
    scope : Scope
        The class of schedules that `lower_bound` speaks of.
    closest_peak : int or None
        The peak of the solver's schedule, also where it is over the budget.
    runtime : float
        Seconds.
    seed : int
    options : mapping
    message : str
    """

    problem: Problem = field(repr=False)
    solver: str
    status: Status
    schedule: Schedule | None = field(repr=False)
    trace: Trace | None
    lower_bound: int
    scope: Scope
    closest_peak: int | None
    runtime: float
    seed: int
    options: Mapping[str, Any]
    message: str = ""

    @property
    def objective(self) -> int | None:
        """Cost (or peak, if that is the objective) of the schedule."""
        return None if self.trace is None else objective_of(self.problem, self.trace)

    @property
    def gap(self) -> float | None:
        """Objective over lower bound, less one; None without a schedule."""
        return None if self.objective is None else relative_gap(self.objective, self.lower_bound)


def objective_of(problem: Problem, trace: Trace) -> int:
    """Cost or peak of a replay, whichever is to be least."""
    return trace.cost if problem.objective is Objective.COST else trace.peak


def relative_gap(objective: int, bound: int) -> float:
    """Objective over bound, less one; infinite above a bound of zero."""
    if objective <= bound:
        return 0.0
    return objective / bound - 1 if bound > 0 else float("inf")
