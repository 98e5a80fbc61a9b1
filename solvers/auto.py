"""The portfolio: a plan at once, a better one soon, a proof where the graph is small enough.

Fast heuristics give the first schedule, annealing improves whatever is best, an exact program
runs beside it on small graphs, and whoever finds a better schedule hands it to the others. A bound
for any order is proved beside it and ends the search where it is met.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from pebble.errors import InvalidArgument, PebbleError
from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import FREE_ORDER, Schedule
from pebble.solver import Answer, Progress, get_solver, register, solver_names
from pebble.solvers.anneal import Search
from pebble.solvers.bounds.exhaustive_search import exhaust
from pebble.solvers.edits.list_schedules import lean_schedules
from pebble.solvers.edits.repair import Repair
from pebble.solvers.edits.retention import filled
from pebble.solvers.integer.engines import Halt
from pebble.solvers.integer.moment_programs import crossing_bound
from pebble.solvers.minpeak import squeeze
from pebble.solvers.portfolio.fixed_order import cheapest_in_order

ORDERS = ("free", "fixed")
EXACT_OPS = 80
"""Up to so many ops the exact solver runs beside the annealer."""
SMALL_OPS = 14
"""Up to so many ops all positions are searched, if they are not too many."""
SHORT_OPS = 2_000
"""Up to so many ops a first round of annealing takes less than a second."""
PATIENCE = 150_000
"""Trials for each op without an improvement after which an annealed plan is taken as final."""
QUICK = 0.3
"""Seconds that the search waits for the bound before it goes on beside it."""
CLOSE = 0.005
"""A gap below which the search goes on from the first plan, without asking more heuristics."""
GOOD = 0.001
"""A gap at which the plan of a large graph is final: further search would gain less than that."""
LISTED = 500
"""Ops up to which list schedules are made also where something fits already, and above which
near misses are repaired: on fewer ops annealing is as soon there."""
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
    order: str = "free",
) -> Answer:
    """The best schedule that any of the solvers finds, and the best bound.

    It returns before the time limit if the gap is closed (on large graphs: below `GOOD`), or if
    annealing has gone on for long without an improvement. What the annealer does is fixed by the
    seed; where an exact solver runs beside it, what that one finds enters when it comes, and the
    time limit cuts.

    Parameters
    ----------
    start : Schedule or iterable of Schedule
        Known schedules, such as those of smaller budgets: the result is never worse than the best
        of them.
    threads : int
        Cores to use.
    order : {"free", "fixed"}
        "fixed": first executions stay in the reference order, as in the formulations of Checkmate
        and MOCCASIN.

    Examples
    --------
    >>> import networkx as nx
    >>> from pebble.graph import Graph
    >>> from pebble.solver import solve
    >>> chain = Graph.from_networkx(nx.path_graph(5, create_using=nx.DiGraph))
    >>> solve(Problem(chain, 2)).status
    <Status.OPTIMAL: 'optimal'>
    """
    if order not in ORDERS:
        raise InvalidArgument(f"There is no order {order!r}; choose one of {', '.join(ORDERS)}.")
    deadline = time.perf_counter() + max(time_limit - GRACE, 0.5 * time_limit)
    known = [start] if isinstance(start, Schedule) else list(start)
    if order == "fixed":
        return cheapest_in_order(
            problem, deadline=deadline, seed=seed, report=report, start=known, threads=threads
        )
    search = Search(problem, seed=seed, report=report, deadline=deadline)
    for schedule in known:
        search.offer(schedule.order, "start")
    impossible = None if search.done else _quick(search)
    if impossible is not None:
        return impossible
    small = len(problem.graph.ops) <= SMALL_OPS and problem.objective is Objective.COST
    if small and not search.done:
        exact = exhaust(problem, deadline=deadline)
        if exact is not None:
            return exact
    if len(problem.graph.ops) > LISTED and _within(search, GOOD):
        return replace(search.answer(), lower_bound=search.bound)
    if search.done or problem.objective is Objective.PEAK:
        if search.best is None:
            squeeze(search, threads=threads)
        search.run(threads=threads)
        answer = search.answer()
        by_cost = problem.objective is Objective.COST
        return replace(answer, lower_bound=search.bound) if by_cost else answer
    floor = _Floor(search)
    if search.best is None and not floor.impossible:
        if len(problem.graph.ops) <= SHORT_OPS:
            search.run(rounds=1, threads=threads)  # short, and enough where the budget is not tight
        if search.best is None:
            squeeze(search, threads=threads)
    return floor.with_bound(_improve(search, threads, floor))


def _quick(search: Search) -> Answer | None:
    """Plans within a second: the heuristics that need no compiled code.

    Returns an answer only where one of them proves that nothing fits.
    """
    names = solver_names()
    for name in ("priced", "chain", "greedy", "sqrt", "recompute_all"):
        if name not in names or search.done or _within(search, CLOSE):
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


def _within(search: Search, gap: float) -> bool:
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
    from inspect import signature

    solver = get_solver(name)[1]
    known = signature(solver).parameters
    try:
        answer = solver(search.problem, **{k: v for k, v in options.items() if k in known})
    except PebbleError:  # a solver that cannot is no reason to fail
        return None
    if answer.schedule is not None:
        search.offer(answer.schedule.order, name)
    if answer.scope == FREE_ORDER and search.problem.objective is Objective.COST:
        search.prove(answer.lower_bound)
    return answer


class _Floor:
    """The bound for any order, in a thread of its own."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.impossible = False
        self._halt = Halt()
        self._bound = search.problem.graph.total_cost
        self._thread = threading.Thread(target=self._find, daemon=True)
        self._thread.start()
        self._thread.join(QUICK)
        self.collect()

    def _find(self) -> None:
        search = self.search
        bound = crossing_bound(search.problem, deadline=search.deadline, halt=self._halt)
        if bound is None:
            self.impossible = True
        else:
            self._bound = bound

    def collect(self) -> None:
        """Tell the search what is proved so far."""
        self.search.prove(self._bound)

    def with_bound(self, answer: Answer) -> Answer:
        """The answer with this bound, unless it has a better one of its own."""
        self._halt.end(self._thread)
        self.collect()
        if self.impossible:
            message = "What one moment must hold exceeds the budget, in any order."
            return Answer(answer.schedule, infeasible=True, message=message)
        bound = max(self._bound, self.search.bound)
        if self.search.best is None or answer.lower_bound > bound:
            return answer
        return Answer(answer.schedule, bound, message=answer.message)


def _improve(search: Search, threads: int, floor: _Floor) -> Answer:
    """Anneal in rounds; the exact solver beside it where the graph is small."""
    n = len(search.problem.graph.ops)
    search.run(rounds=2, threads=threads)
    _fill(search)
    floor.collect()
    small = n <= EXACT_OPS and "ilp" in solver_names()
    exact = _Exact(search) if small and not search.done else None
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


class _Exact:
    """The exact solver in a thread of its own."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self._halt = Halt()
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
                search.problem,
                time_limit=max(left, 0.1),
                seed=search.seed,
                start=starts,
                halt=self._halt,
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
        if not self.search.done:
            self._thread.join(max(self.search.deadline - time.perf_counter(), 0) + GRACE / 2)
        self._halt.end(self._thread)
        self.collect()
        best, exact = self.search.answer(), self._taken
        if exact is None:
            return best
        if self.search.best is None:
            return Answer(best.schedule, 0, exact.scope, exact.infeasible, exact.message)
        if self.search.best_value < exact.lower_bound:  # the free order is better than the proof
            return best
        if exact.schedule is not None and self._as_good(exact.schedule):
            return exact  # in the order of which the bound speaks
        return Answer(best.schedule, exact.lower_bound, exact.scope)

    def _as_good(self, schedule: Schedule) -> bool:
        problem = self.search.problem
        trace = simulate(problem, schedule)
        return trace.peak <= problem.budget and trace.cost <= self.search.best_value
