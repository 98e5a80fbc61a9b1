"""Annealing for the least peak, from the leanest schedules that heuristics know."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress, get_solver
from pebble.solvers.annealing.search import Search

STARTS = ("recompute_all", "greedy", "sqrt", "chain")

PATIENCE = 4
"""Rounds of annealing without a lower peak after which `minpeak` stops."""


def squeeze(search: Search, *, threads: int = 2) -> None:
    """Lower the peak until something fits the budget of a cost search that has nothing.

    It goes the way of `minpeak` with the same seed, so that it comes to what that one has found.
    """
    problem = search.problem
    least = least_peak_search(problem, search.seed, search.deadline, problem.budget)
    for order in search.pool:
        least.offer(order, "pool")
    least.run(threads=threads)
    found = [*least.pool] if least.best is None else [*least.pool, least.best]
    for order in found:
        search.offer(order, "minpeak")


def least_peak_search(
    problem: Problem,
    seed: int,
    deadline: float,
    target: int,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Search:
    """A search for the least peak that knows what the heuristics have at their leanest."""
    keep = simulate(problem.graph, Schedule.keep_all(problem.graph)).peak
    wide = replace(problem, objective=Objective.PEAK, budget=keep)
    search = Search(wide, seed=seed, report=report, deadline=deadline, target=target)
    for name in STARTS:
        if search.done or time.perf_counter() > deadline:
            continue
        lowest = replace(problem, budget=problem.working_set_bound, objective=Objective.COST)
        answer: Answer = get_solver(name)[1](lowest)
        if answer.schedule is not None:
            search.offer(answer.schedule.order, name)
    return search


def lower_peak(search: Search, threads: int) -> None:
    """Anneal until a few rounds in a row have not lowered the peak."""
    waited = 0
    while not search.done and waited < PATIENCE and time.perf_counter() < search.deadline:
        before = search.best_value if search.best is not None else search.closest_peak
        search.run(rounds=1, threads=threads)
        now = search.best_value if search.best is not None else search.closest_peak
        waited = 0 if now < 0.9995 * before else waited + 1
