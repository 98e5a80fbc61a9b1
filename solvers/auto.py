"""The portfolio: a plan at once, a better one soon, a proof where the graph is small enough.

Fast heuristics give the first schedule, annealing improves whatever is best, an exact program
runs beside it on small graphs, and whoever finds a better schedule hands it to the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from pebble.errors import PebbleError
from pebble.problem import Objective, Problem
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress, get_solver, register, solver_names
from pebble.solvers.anneal import Search
from pebble.solvers.minpeak import squeeze

EXACT_OPS = 80
"""Up to so many ops the exact solver runs beside the annealer."""
PATIENCE = 150_000
"""Trials for each op without an improvement after which an annealed plan is taken as final."""
GRACE = 0.15
"""Seconds kept back from the time limit for the replay."""


@register("auto")
def auto(
    problem: Problem,
    *,
    time_limit: float = 60.0,
    seed: int = 0,
    report: Callable[[Progress], None] = lambda progress: None,
    start: Schedule | Iterable[Schedule] = (),
    threads: int = 2,
) -> Answer:
    """The best schedule that any of the solvers finds, and the best bound.

    It returns before the time limit if the gap is closed, or if annealing has gone on for long
    without an improvement. What the annealer does is fixed by the seed; where an exact solver runs
    beside it, what that one finds enters when it comes, and the time limit cuts.

    Parameters
    ----------
    start : Schedule or iterable of Schedule
        Known schedules, such as those of smaller budgets: the result is never worse than the best
        of them.
    threads : int
        Cores to use.

    Examples
    --------
    >>> import networkx as nx
    >>> from pebble.graph import Graph
    >>> from pebble.solver import solve
    >>> chain = Graph.from_networkx(nx.path_graph(5, create_using=nx.DiGraph))
    >>> solve(Problem(chain, 2)).status
    <Status.OPTIMAL: 'optimal'>
    """
    deadline = time.perf_counter() + max(time_limit - GRACE, 0.5 * time_limit)
    search = Search(problem, seed=seed, report=report, deadline=deadline)
    for schedule in [start] if isinstance(start, Schedule) else start:
        search.offer(schedule.order, "start")
    if not search.done:
        _quick(search)
    if search.best is None:
        squeeze(search, threads=threads)
    if search.done or problem.objective is Objective.PEAK:
        search.run(threads=threads)
        return search.answer()
    return _improve(search, threads)


def _quick(search: Search) -> None:
    """Plans within a second: the heuristics that need no compiled code."""
    names = solver_names()
    for name in ("priced", "greedy", "sqrt", "recompute_all", "chain"):
        if name not in names or search.done:
            continue
        left = search.deadline - time.perf_counter()
        share = min(left, max(0.2 * left, 3.0))
        _offer_answer(search, name, time_limit=share, seed=search.seed)


def _offer_answer(search: Search, name: str, **options: Any) -> Answer | None:
    """Ask another solver and take what it finds into account."""
    from inspect import signature

    solver = get_solver(name)[1]
    known = signature(solver).parameters
    try:
        answer = solver(search.problem, **{k: v for k, v in options.items() if k in known})
    except PebbleError:  # a solver that cannot is no reason to fail
        return None
    if answer.schedule is not None:
        search.offer(answer.schedule.order, name)
    return answer


def _improve(search: Search, threads: int) -> Answer:
    """Anneal in rounds; the exact solver beside it where the graph is small."""
    n = len(search.problem.graph.ops)
    search.run(rounds=2, threads=threads)
    small = n <= EXACT_OPS and "ilp" in solver_names()
    exact = _Exact(search) if small and not search.done else None
    patience = PATIENCE * n
    trials, value = search.trials, search.best_value
    while not search.done and time.perf_counter() < search.deadline:
        busy = exact is not None and exact.busy
        search.run(rounds=1, threads=max(1, threads - busy))
        if exact is not None:
            exact.collect()
        if search.best_value < value or search.best is None:
            trials, value = search.trials, search.best_value
        elif exact is not None and exact.proved and search.trials - trials > patience // 5:
            break
        elif search.trials - trials > max(patience, 2 * trials) and not busy:
            break  # nothing has come of more trials than it took to get here, twice over
    return search.answer() if exact is None else exact.answer()


class _Exact:
    """The exact solver in a thread of its own."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self._found: Answer | None = None
        self._taken: Answer | None = None
        self._thread = threading.Thread(target=self._solve, daemon=True)
        self._thread.start()

    def _solve(self) -> None:
        search = self.search
        starts = [Schedule(order) for order in (search.best, search.closest) if order is not None]
        left = search.deadline - time.perf_counter()
        try:
            self._found = get_solver("ilp")[1](
                search.problem, time_limit=max(left, 0.1), seed=search.seed, start=starts
            )
        except PebbleError:
            self._found = None

    @property
    def busy(self) -> bool:
        return self._thread.is_alive()

    @property
    def proved(self) -> bool:
        """Whether it has shown that nothing in its order is better than the best known."""
        taken = self._taken
        return taken is not None and self.search.best_value <= taken.lower_bound

    def collect(self) -> None:
        """Hand what it has found to the search."""
        answer, self._found = self._found, None
        if answer is not None:
            self._taken = answer
            if answer.schedule is not None:
                self.search.offer(answer.schedule.order, "ilp")

    def answer(self) -> Answer:
        """The best of both, with the bound where it speaks of that schedule."""
        self._thread.join(max(self.search.deadline - time.perf_counter(), 0) + GRACE / 2)
        self.collect()
        best, exact = self.search.answer(), self._taken
        if exact is None:
            return best
        if self.search.best is None:
            return Answer(best.schedule, 0, exact.scope, exact.infeasible, exact.message)
        if exact.schedule is not None and self.search.best_value == exact.lower_bound:
            return exact
        if self.search.best_value < exact.lower_bound:  # the free order is better than the proof
            return best
        return Answer(best.schedule, exact.lower_bound, exact.scope)
