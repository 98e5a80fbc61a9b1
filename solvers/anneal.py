"""Simulated annealing over free orders, with any number of recomputations.

The schedule is a sequence of executions. A trial adds, removes or moves one of them (or a chain of
recomputations that feed each other), the memory profile is kept up to date, and bytes over the
budget are paid for. After Imanishi et al., "A fast heuristic to optimize time-space tradeoff for
large models" (NeurIPS 2023). Cooling runs of many kinds come in rounds of two; after each round the
best schedule is handed on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from pebble.errors import InvalidArgument
from pebble.problem import Problem
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress, register, schedules_of
from pebble.solvers.annealing.search import Search


@register(
    "anneal",
    summary="free order, any number of recomputations (after FastSA, NeurIPS 2023)",
)
def anneal(
    problem: Problem,
    *,
    time_limit: float = 60.0,
    seed: int = 0,
    report: Callable[[Progress], None] = lambda progress: None,
    start: Schedule | Iterable[Schedule] = (),
    iterations: int | None = None,
    threads: int = 2,
) -> Answer:
    """Anneal from given schedules and from scratch, in rounds, until the time is up.

    Parameters
    ----------
    problem : Problem
        Of either objective.
    time_limit : float
        Seconds. It stops a run between two chunks of trials, and shortens the last runs so that
        they still cool.
    seed : int
    report : callable
    start : Schedule or iterable of Schedule
        Schedules to begin from, within the budget or not. What has them twice or breaks a rule is
        left out. The reference order is always among them.
    iterations : int, optional
        So many trials in all, and no more: then a seed repeats itself wherever the time limit is
        not reached first.
    threads : int
        How many runs of a round go at once; the result does not depend on it.

    Returns
    -------
    Answer
        The cheapest schedule within the budget, or else the one closest to it. The bound is that
        of running every op once (or the largest working set).

    Raises
    ------
    InvalidArgument
        If `iterations` or `threads` is not positive.

    Examples
    --------
    >>> import networkx as nx
    >>> from pebble.graph import Graph
    >>> from pebble.solver import solve
    >>> tree = nx.DiGraph([(0, 6), (1, 6), (2, 7), (3, 7), (6, 8), (7, 8)])
    >>> tree.add_nodes_from([0, 1, 2, 3, 6, 7, 8])
    >>> solve(Problem(Graph.from_networkx(tree), 4), "anneal", iterations=20_000).objective
    7
    """
    for name, number in (("iterations", iterations), ("threads", threads)):
        if number is not None and number < 1:
            raise InvalidArgument(f"{name} is {number}; it must be at least 1.")
    search = Search(problem, seed=seed, report=report, deadline=time.perf_counter() + time_limit)
    for schedule in schedules_of(start):
        search.offer(schedule.order, "start")
    search.run(iterations=iterations, threads=threads)
    return search.answer()
