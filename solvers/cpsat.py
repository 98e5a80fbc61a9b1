"""Retention intervals (MOCCASIN, ICML 2023): when each copy of a value is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pebble.errors import InvalidArgument
from pebble.problem import Objective, Problem
from pebble.schedule import Schedule, Scope
from pebble.solver import Answer, Progress, get_solver, register, schedules_of
from pebble.solvers.edits.incumbent import Incumbent
from pebble.solvers.integer.interval_model import IntervalModel
from pebble.solvers.integer.reference_order import in_class

FREE_OPS = 24
"""Up to so many ops the order is free unless asked otherwise."""
LARGEST_MODEL = 60_000
"""Pairs of an execution and a copy that it may read; about 700 ops in fixed order."""
ORDERS = ("auto", "fixed", "free")


@register(
    "cpsat",
    summary="retention intervals (after MOCCASIN, ICML 2023), few executions of each op",
    bound="fixed or free order, said in the result",
)
def cpsat(
    problem: Problem,
    *,
    time_limit: float = 60.0,
    seed: int = 0,
    report: Callable[[Progress], None] | None = None,
    order: str = "auto",
    copies: int = 2,
    threads: int = 1,
    start: Schedule | Iterable[Schedule] = (),
) -> Answer:
    """The cheapest schedule with few executions of each op, as intervals under a cumulative limit.

    Each execution makes an interval for each of its results, from its own step to the last
    reader that is served by it; at every step the intervals must fit the budget. In fixed order
    steps are pairs (stage, op), as in Checkmate's class; in free order any position.

    Parameters
    ----------
    order : {"auto", "fixed", "free"}
        "auto" is free up to `FREE_OPS` ops.
    copies : int
        Most executions of an op; the bound speaks of this class only.
    threads : int
        Threads; one repeats itself.
    start : Schedule or iterable of Schedule
        Schedules to begin from, besides that of `greedy`.
    """
    if order not in ORDERS:
        raise InvalidArgument(f"There is no order {order!r}; choose one of {', '.join(ORDERS)}.")
    if copies < 1:
        raise InvalidArgument(f"An op runs at least once; copies is {copies}.")
    n = len(problem.graph.ops)
    fixed = order == "fixed" or (order == "auto" and n > FREE_OPS)
    scope = Scope(fixed_order=fixed, max_executions=copies)
    best = _incumbent(problem, start, scope, report, time_limit)
    if best.fits and best.cost == problem.graph.total_cost and problem.objective is Objective.COST:
        return best.answer()
    model = IntervalModel(problem, fixed=fixed, copies=copies)
    if model.pairs > LARGEST_MODEL:
        return Answer(None, message=f"The model for {n} ops has {model.pairs} reads; use 'auto'.")
    model.build(best.cost - 1 if best.fits else None, best.peak - 1 if best.fits else None)
    if best.schedule is not None:
        model.hint(best.schedule)
    left = max(time_limit - best.seconds, 0.05)
    found, bound, impossible = model.solve(left, seed, threads, best)
    if found is not None:
        best.offer(found)
    if impossible and not best.fits:
        message = f"No schedule of the class ({scope}) fits the budget."
        return Answer(best.schedule, scope=scope, infeasible=True, message=message)
    proved = (best.cost, best.peak)[problem.objective is Objective.PEAK]
    return Answer(best.schedule, proved if impossible else min(bound, proved), scope)


def _incumbent(
    problem: Problem,
    start: Schedule | Iterable[Schedule],
    scope: Scope,
    report: Callable[[Progress], None] | None,
    time_limit: float,
) -> Incumbent:
    """The best known schedule of the class."""
    best = Incumbent(problem, "cpsat", report)
    best.offer(Schedule.keep_all(problem.graph))
    quick = get_solver("greedy")[1](problem, time_limit=time_limit / 4).schedule
    for schedule in (*schedules_of(start), quick):
        inside = schedule
        if schedule is not None and scope.fixed_order:
            inside = in_class(problem.graph, schedule)
        if inside is not None and scope.contains(problem.graph, inside):
            best.offer(inside)
    return best
