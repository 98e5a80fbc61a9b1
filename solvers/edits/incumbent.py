"""Choosing among schedules: the referee replays each, and the best that fits is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from pebble.problem import Objective, Problem
from pebble.referee import Trace, simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress
from pebble.solvers.edits.surplus import trimmed


class Incumbent:
    """The best schedule so far: the cheapest that fits, or the least peak while none fits.

    Parameters
    ----------
    problem : Problem
    source : str
        The solver's name in reports.
    report : callable, optional
        Called with a `Progress` at each improvement that fits.
    """

    def __init__(
        self, problem: Problem, source: str, report: Callable[[Progress], None] | None = None
    ) -> None:
        self.problem, self.source, self.report = problem, source, report
        self.schedule: Schedule | None = None
        self.cost = self.peak = 0
        self._key: tuple[bool, int, int] | None = None
        self._started = time.perf_counter()

    @property
    def fits(self) -> bool:
        """Whether the incumbent is within the budget."""
        return self.schedule is not None and self.peak <= self.problem.budget

    @property
    def seconds(self) -> float:
        """Since the search began."""
        return time.perf_counter() - self._started

    def offer(self, schedule: Schedule, trace: Trace | None = None) -> bool:
        """Replay a schedule and keep it if it is better; an equal one never replaces it."""
        trace = trace or simulate(self.problem, schedule)
        over = trace.peak > self.problem.budget
        by_peak = over or self.problem.objective is Objective.PEAK
        pair = (trace.peak, trace.cost) if by_peak else (trace.cost, trace.peak)
        key = (over, *pair)
        if self._key is not None and key >= self._key:
            return False
        self.schedule, self._key = schedule, key
        self.cost, self.peak = trace.cost, trace.peak
        if self.report is not None and not over:
            self.report(
                Progress(self.seconds, trace.cost, self.problem.graph.total_cost, self.source)
            )
        return True

    def answer(self, message: str = "") -> Answer:
        """What was found; the free bound that every op runs once is the core's."""
        return Answer(self.schedule, message=message)


def best_of(
    problem: Problem,
    schedules: Iterable[Schedule],
    source: str,
    *,
    trim: int | None = None,
    time_limit: float = float("inf"),
    report: Callable[[Progress], None] | None = None,
) -> Answer:
    """The best of a family of schedules; stops at the first that recomputes nothing and fits.

    A family that does not depend on the budget makes a monotone solver: what fits a small budget
    is a candidate for every larger one.

    Parameters
    ----------
    trim : int, optional
        So many variants of each schedule join the family, see `trimmed`; the default is 3, or 1
        above 2,000 ops.
    """
    best = Incumbent(problem, source, report)
    done = problem.graph.total_cost
    if trim is None:
        trim = 3 if len(problem.graph.ops) <= 2000 else 1
    for schedule in schedules:
        trace = simulate(problem, schedule)
        best.offer(schedule, trace)
        for variant in trimmed(problem, schedule, trace, trim):
            best.offer(variant)
        optimal = best.fits and best.cost == done and problem.objective is Objective.COST
        if optimal or best.seconds > time_limit:
            break
    return best.answer()
