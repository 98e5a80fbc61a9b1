"""Large neighbourhoods of an incumbent, each searched exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress, get_solver, register, schedules_of
from pebble.solvers.edits.incumbent import Incumbent
from pebble.solvers.integer.neighbourhoods import Neighbourhoods
from pebble.solvers.integer.reference_order import in_class


@register(
    "lns",
    summary="exact search of neighbourhoods around a start, which keep its order",
    bound="fixed order, where one of them held all ops",
)
def lns(
    problem: Problem,
    *,
    time_limit: float = 60.0,
    seed: int = 0,
    report: Callable[[Progress], None] | None = None,
    start: Schedule | Iterable[Schedule] = (),
    rounds: int = 200,
) -> Answer:
    """Improve a schedule of the reference order by deciding some ops anew, the rest fixed.

    A neighbourhood is a few windows of ops around some that the incumbent recomputes: when they
    run again, and how long what they make and read is kept, is decided by CP-SAT; all other
    runs and copies stay. Neighbourhoods grow while they are searched to the end and shrink when
    they are not. Once one of them holds all ops, the result is optimal in the fixed order.

    Parameters
    ----------
    start : Schedule or iterable of Schedule
        Incumbents; those whose first executions follow the reference order can be improved.
        The default is the better of `greedy` and `chain`.
    rounds : int
        Neighbourhoods to search. Their work is measured without a clock: a seed repeats itself
        where the time limit does not cut the search.
    """
    best = Incumbent(problem, "lns", report)
    deadline = time.perf_counter() + time_limit
    best.offer(Schedule.keep_all(problem.graph))
    for schedule in schedules_of(start) or _defaults(problem, time_limit / 4):
        best.offer(schedule)
    if best.schedule is None or not best.fits or problem.objective is Objective.PEAK:
        return best.answer("" if best.fits else "No start is within the budget.")
    if best.cost == problem.graph.total_cost:
        return best.answer()
    inside = in_class(problem.graph, best.schedule)
    if inside is None or simulate(problem, inside).peak > problem.budget:
        return best.answer("The best start leaves the reference order; there is nothing to fix.")
    return Neighbourhoods(problem, inside, best, seed, deadline).run(rounds)


def _defaults(problem: Problem, seconds: float) -> list[Schedule]:
    answers = [get_solver(name)[1](problem, time_limit=seconds) for name in ("greedy", "chain")]
    return [answer.schedule for answer in answers if answer.schedule is not None]
