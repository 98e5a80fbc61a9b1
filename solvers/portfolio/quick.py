"""Plans within a second: the heuristics that need no compiled code."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pebble.errors import PebbleError
from pebble.problem import Objective
from pebble.schedule import FREE_ORDER
from pebble.solver import Answer, Progress, capabilities, get_solver
from pebble.solvers.annealing.search import Search
from pebble.solvers.edits.list_schedules import lean_schedules
from pebble.solvers.edits.repair import Repair
from pebble.solvers.edits.retention import filled

LISTED = 500
"""Ops up to which list schedules are made also where something fits already, and above which
near misses are repaired: on fewer ops annealing is as soon there."""
CLOSE = 0.005
"""A gap below which the search goes on from the first plan, without asking more heuristics."""


def quick_plans(search: Search) -> Answer | None:
    """Plans within a second: the heuristics that need no compiled code.

    Returns an answer only where one of them proves that nothing fits.
    """
    for name in ("priced", "chain", "greedy", "sqrt", "recompute_all"):
        if search.done or within(search, CLOSE):
            continue
        if name == "sqrt" and (search.best is None or len(search.problem.graph.ops) <= LISTED):
            _lean(search)
        left = search.deadline - time.perf_counter()
        part = 0.6 if name == "priced" else 0.2
        share = min(left, max(part * left, 3.0))
        answer = _offer_answer(
            search,
            name,
            time_limit=share,
            seed=search.seed,
            report=_relay(search),
            repair=len(search.problem.graph.ops) > LISTED,
        )
        if answer is not None and answer.infeasible and answer.scope == FREE_ORDER:
            return answer
    return None


def _lean(search: Search) -> None:
    """List schedules; those of many ops are repaired where none fits."""
    schedules = list(lean_schedules(search.problem))
    for schedule in schedules:
        search.offer(schedule.order, "list scheduling")
    repair = Repair(search.problem, search.deadline)
    for schedule in schedules if len(search.problem.graph.ops) > LISTED else ():
        if search.best is not None or time.perf_counter() > search.deadline:
            break
        fitting = repair.fit(schedule)
        if fitting is not None:
            search.offer(filled(search.problem, fitting).order, "list scheduling")


def within(search: Search, gap: float) -> bool:
    """Whether the best plan is so near what is proved."""
    by_cost = search.problem.objective is Objective.COST
    return by_cost and search.best is not None and search.best_value <= (1 + gap) * search.bound


def _relay(search: Search) -> Callable[[Progress], None]:
    """Passes the reports of a part on, where they are better than what is known."""
    known: list[int] = [] if search.best is None else [search.best_value]

    def report(progress: Progress) -> None:
        if progress.incumbent is not None and progress.incumbent < min(known, default=2**62):
            known.append(progress.incumbent)
            seconds = time.perf_counter() - search.began
            search.report(replace(progress, seconds=seconds, bound=search.bound))

    return report


def _offer_answer(search: Search, name: str, **options: Any) -> Answer | None:
    """Ask another solver and take what it finds into account."""
    try:
        solver = get_solver(name)[1]
        answer = solver(search.problem, **capabilities(solver).select(options))
    except PebbleError:  # a solver that cannot is no reason to fail
        return None
    if answer.schedule is not None:
        search.offer(answer.schedule.order, name)
    if answer.scope == FREE_ORDER and search.problem.objective is Objective.COST:
        search.prove(answer.lower_bound)
    return answer
