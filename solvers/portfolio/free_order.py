"""The portfolio in any order: heuristics, guests, annealing, and an exact program beside it."""

from __future__ import annotations

import time
from dataclasses import replace

from pebble.problem import Objective
from pebble.schedule import Schedule
from pebble.solver import Answer
from pebble.solvers.annealing.least_peak import squeeze
from pebble.solvers.annealing.search import Search
from pebble.solvers.bounds.exhaustive_search import exhaust
from pebble.solvers.edits.retention import filled
from pebble.solvers.portfolio.exact import ExactSearch
from pebble.solvers.portfolio.floor import Floor
from pebble.solvers.portfolio.guests import invite, seconds_kept
from pebble.solvers.portfolio.quick import LISTED, quick_plans, within

EXACT_OPS = 80
"""Up to so many ops the exact solver runs beside the annealer."""
SMALL_OPS = 14
"""Up to so many ops all positions are searched, if they are not too many."""
SHORT_OPS = 2_000
"""Up to so many ops a first round of annealing takes less than a second."""
PATIENCE = 150_000
"""Trials for each op without an improvement after which an annealed plan is taken as final."""
GOOD = 0.001
"""A gap at which the plan of a large graph is final: further search would gain less than that."""


def best_in_any_order(search: Search, threads: int) -> Answer:
    """The best schedule of any order that is found until the deadline of a search, and a bound."""
    kept = seconds_kept(search.deadline)
    search.deadline -= kept
    settled = _settled(search)
    search.deadline += kept
    if settled is not None:
        return settled
    said = "" if search.done else _invite(search, threads)
    answer = _searched(search, threads)
    return replace(answer, message=f"{answer.message} {said}".strip())


def _settled(search: Search) -> Answer | None:
    """The answer where heuristics, or a look at all positions, are enough."""
    problem = search.problem
    n, by_cost = len(problem.graph.ops), problem.objective is Objective.COST
    impossible = None if search.done else quick_plans(search)
    if impossible is not None:
        return impossible
    if n <= SMALL_OPS and by_cost and not search.done:
        exact = exhaust(problem, deadline=search.deadline)
        if exact is not None:
            return exact
    if n > LISTED and within(search, GOOD):
        return replace(search.answer(), lower_bound=search.bound)
    return None


def _invite(search: Search, threads: int) -> str:
    """Ask other people's solvers; what is to be said of them."""
    orders = (search.best, search.closest)
    return invite(
        search.problem,
        [Schedule(order) for order in dict.fromkeys(orders) if order is not None],
        lambda schedule, name: search.offer(schedule.order, name),
        deadline=search.deadline,
        seed=search.seed,
        threads=threads,
    )


def _searched(search: Search, threads: int) -> Answer:
    """Annealing from what is known, with a bound proved beside it."""
    problem = search.problem
    if search.done or problem.objective is Objective.PEAK:
        if search.best is None:
            squeeze(search, threads=threads)
        search.run(threads=threads)
        answer = search.answer()
        by_cost = problem.objective is Objective.COST
        return replace(answer, lower_bound=search.bound) if by_cost else answer
    floor = Floor(search)
    if search.best is None and not floor.impossible:
        if len(problem.graph.ops) <= SHORT_OPS:
            search.run(rounds=1, threads=threads)  # short, and enough where the budget is not tight
        if search.best is None:
            squeeze(search, threads=threads)
    return floor.with_bound(_improve(search, threads, floor))


def _improve(search: Search, threads: int, floor: Floor) -> Answer:
    """Anneal in rounds; the exact solver beside it where the graph is small."""
    n = len(search.problem.graph.ops)
    search.run(rounds=2, threads=threads)
    _fill(search)
    floor.collect()
    exact = ExactSearch(search) if n <= EXACT_OPS and not search.done else None
    patience = PATIENCE * n
    trials, value = search.trials, search.best_value
    while not search.done and time.perf_counter() < search.deadline and not floor.impossible:
        busy = exact is not None and exact.busy
        search.run(rounds=1, threads=max(1, threads - busy))
        _fill(search)
        floor.collect()
        if exact is not None:
            exact.collect()
        if search.best_value < value or search.best is None:
            trials, value = search.trials, search.best_value
        elif exact is not None and exact.proved and search.trials - trials > patience // 5:
            break
        elif search.trials - trials > max(patience, 2 * trials) and not busy:
            break  # nothing has come of more trials than it took to get here, twice over
    return search.answer() if exact is None else exact.answer()


def _fill(search: Search) -> None:
    """Keep what there is room for: a random search comes to that last."""
    if search.best is not None and not search.done:
        order = filled(search.problem, Schedule(search.best)).order
        if len(order) < len(search.best):
            search.offer(order, "filling")
