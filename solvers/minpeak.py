"""The least peak: re-ordering and recomputation until the memory goes no lower.

This is the search behind "the least budget known to work", and where a cost search begins when
nothing it knows fits its budget.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from pebble.graph import Graph
from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress, get_solver, register, solver_names
from pebble.solvers.anneal import Search
from pebble.solvers.bounds.precedence import held_beside, precedence

STARTS = ("recompute_all", "greedy", "sqrt", "chain")
LARGEST_REACH = 20_000
"""Ops up to which the bound looks at who must run before whom (n^2 bytes)."""
PATIENCE = 4
"""Rounds of annealing without a lower peak after which `minpeak` stops."""


@register("minpeak")
def minpeak(
    problem: Problem,
    *,
    time_limit: float = 60.0,
    seed: int = 0,
    report: Callable[[Progress], None] = lambda progress: None,
    start: Schedule | Iterable[Schedule] = (),
    threads: int = 2,
    target: int = 0,
) -> Answer:
    """A schedule with the least peak, at whatever cost; `solver="auto"` then makes it cheap.

    Parameters
    ----------
    problem : Problem
        Its budget is an upper limit only.
    start : Schedule or iterable of Schedule
    target : int
        A peak in bytes that is low enough to stop.

    Returns
    -------
    Answer
        With `peak_bound` as its bound where the peak is the objective.

    Examples
    --------
    >>> import networkx as nx
    >>> graph = Graph.from_networkx(nx.path_graph(9, create_using=nx.DiGraph))
    >>> minpeak(Problem(graph, 100, Objective.PEAK), time_limit=5.0).lower_bound
    2
    """
    bound = peak_bound(problem)
    deadline = time.perf_counter() + 0.98 * time_limit
    search = _search(problem, seed, deadline, max(bound, target), report)
    for schedule in [start] if isinstance(start, Schedule) else start:
        search.offer(schedule.order, "start")
    _lower(search, threads)
    answer = search.answer()
    return answer if problem.objective is Objective.COST else replace(answer, lower_bound=bound)


def minimum_budget(
    subject: Problem | Graph, time_limit: float = 30.0, seed: int = 0
) -> tuple[Schedule, int, int]:
    """The least budget known to work.

    Returns
    -------
    schedule : Schedule
    peak : int
        Its peak, in bytes.
    lower_bound : int
        No schedule of any order has a lower peak than this.

    Examples
    --------
    >>> import networkx as nx
    >>> minimum_budget(Graph.from_networkx(nx.path_graph(4, create_using=nx.DiGraph)))[1:]
    (2, 2)
    """
    graph = subject.graph if isinstance(subject, Problem) else subject
    keep = Schedule.keep_all(graph)
    wide = Problem(graph, simulate(graph, keep).peak, Objective.PEAK)
    if isinstance(subject, Problem):
        wide = replace(wide, recompute=subject.recompute)
    answer = minpeak(wide, time_limit=time_limit, seed=seed)
    schedule = answer.schedule or keep
    return schedule, simulate(wide, schedule).peak, answer.lower_bound


def squeeze(search: Search, *, threads: int = 2) -> None:
    """Lower the peak until something fits the budget of a cost search that has nothing.

    It goes the way of `minpeak` with the same seed, so that it comes to what that one has found.
    """
    problem = search.problem
    least = _search(problem, search.seed, search.deadline, problem.budget)
    for order in search.pool:
        least.offer(order, "pool")
    least.run(threads=threads)
    found = [*least.pool] if least.best is None else [*least.pool, least.best]
    for order in found:
        search.offer(order, "minpeak")


def _search(
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
    names = solver_names()
    for name in STARTS:
        if name not in names or search.done or time.perf_counter() > deadline:
            continue
        lowest = replace(problem, budget=problem.working_set_bound, objective=Objective.COST)
        answer: Answer = get_solver(name)[1](lowest)
        if answer.schedule is not None:
            search.offer(answer.schedule.order, name)
    return search


def _lower(search: Search, threads: int) -> None:
    waited = 0
    while not search.done and waited < PATIENCE and time.perf_counter() < search.deadline:
        before = search.best_value if search.best is not None else search.closest_peak
        search.run(rounds=1, threads=threads)
        now = search.best_value if search.best is not None else search.closest_peak
        waited = 0 if now < 0.9995 * before else waited + 1


def peak_bound(problem: Problem) -> int:
    """Bytes that every schedule of any order must have room for.

    While an op runs for the first time there are, besides its inputs, outputs and workspace: what
    ops before it have made that is pinned, and what they have made that may run only once if
    something that must come after it reads that.
    """
    graph, a = problem.graph, problem.graph.arrays
    once = ~problem.may_repeat
    stuck = [
        v
        for v in np.flatnonzero((a.producer >= 0) & (a.size > 0)).tolist()
        if a.pinned[v] or once[a.producer[v]]
    ]
    if not stuck or len(graph.ops) > LARGEST_REACH:
        return max(problem.working_set_bound, int(a.size[a.pinned].sum()))
    held = held_beside(problem, precedence(graph), stuck)
    pinned = int(a.size[a.pinned].sum())
    return max(int(held.max(initial=0)), pinned)
