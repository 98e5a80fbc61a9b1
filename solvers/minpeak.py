"""The least peak: re-ordering and recomputation until the memory goes no lower.

This is the search behind "the least budget known to work", and where a cost search begins when
nothing it knows fits its budget.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from pebble.graph import Graph
from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress, register, schedules_of
from pebble.solvers.annealing.least_peak import least_peak_search, lower_peak
from pebble.solvers.bounds.peak import peak_lower_bound


@register(
    "minpeak",
    summary='the least peak, for "what is the smallest budget that works"',
    bound="any order",
)
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
        With `peak_lower_bound` as its bound where the peak is the objective.

    Examples
    --------
    >>> import networkx as nx
    >>> graph = Graph.from_networkx(nx.path_graph(9, create_using=nx.DiGraph))
    >>> minpeak(Problem(graph, 100, Objective.PEAK), time_limit=5.0).lower_bound
    2
    """
    bound = peak_lower_bound(problem)
    deadline = time.perf_counter() + 0.98 * time_limit
    search = least_peak_search(problem, seed, deadline, max(bound, target), report)
    for schedule in schedules_of(start):
        search.offer(schedule.order, "start")
    lower_peak(search, threads)
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
