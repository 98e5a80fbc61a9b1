"""The portfolio in the reference order: the exact program, and neighbourhoods beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from pebble.errors import PebbleError
from pebble.problem import Objective, Problem
from pebble.schedule import FIXED_ORDER, FREE_ORDER, Schedule
from pebble.solver import Answer, Progress, get_solver
from pebble.solvers.candidates import Incumbent
from pebble.solvers.crossing import crossing_bound
from pebble.solvers.ilp import in_class

SLICE = 2.0
"""Seconds of the first neighbourhood search; each further one takes half as long again."""


def cheapest_in_order(
    problem: Problem,
    *,
    deadline: float,
    seed: int,
    report: Callable[[Progress], None],
    start: Sequence[Schedule],
    threads: int,
) -> Answer:
    """The cheapest schedule in Checkmate's class that is found until a deadline, and a bound.

    `ilp` searches the whole class in a thread; `lns` improves the incumbent beside it, or after it
    where the program is too large or there is one thread only.

    Parameters
    ----------
    deadline : float
        On `time.perf_counter`.

    Returns
    -------
    Answer
        With a bound for any order where that one is met, else for the fixed order.
    """
    search = _Search(problem, deadline, seed, report)
    for schedule in (Schedule.keep_all(problem.graph), *start):
        search.offer(schedule)
    search.ask("greedy", "chain")
    if problem.objective is Objective.PEAK:
        return search.exact(search.left)
    floor = crossing_bound(problem, deadline=min(deadline, time.perf_counter() + search.left / 8))
    if floor is None:
        message = "What one moment must hold exceeds the budget, in any order."
        return Answer(search.best.schedule, infeasible=True, message=message)
    if search.best.fits and search.best.cost <= floor:
        return Answer(search.best.schedule, floor, FREE_ORDER)
    answer = search.beside(threads)
    if answer.infeasible or not search.best.fits:
        return answer
    best, bound = search.best, max(floor, min(answer.lower_bound, search.best.cost))
    met = best.cost <= floor
    return Answer(best.schedule, bound, FREE_ORDER if met else FIXED_ORDER)


class _Search:
    def __init__(
        self,
        problem: Problem,
        deadline: float,
        seed: int,
        report: Callable[[Progress], None],
    ) -> None:
        self.problem, self.deadline, self.seed = problem, deadline, seed
        self.best = Incumbent(problem, "auto", report)
        self.found = Answer(None)

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(self.deadline - time.perf_counter(), 0.05)

    def offer(self, schedule: Schedule | None) -> None:
        """Take a schedule into account if its first runs follow the reference order."""
        if schedule is not None:
            inside = in_class(self.problem.graph, schedule)
            if inside is not None:
                self.best.offer(inside)

    def ask(self, *names: str) -> None:
        """Take into account what quick solvers find."""
        for name in names:
            try:
                answer = get_solver(name)[1](self.problem, time_limit=self.left / 8)
            except PebbleError:  # a solver that cannot is no reason to fail
                continue
            self.offer(answer.schedule)

    def exact(self, seconds: float) -> Answer:
        """What `ilp` finds and proves."""
        known = [] if self.best.schedule is None else [self.best.schedule]
        self.found = get_solver("ilp")[1](
            self.problem, time_limit=seconds, seed=self.seed, start=known
        )
        return self.found

    def beside(self, threads: int) -> Answer:
        """`ilp` in a thread and `lns` beside it, or one after the other."""
        share = self.left if threads > 1 else 0.7 * self.left
        thread = threading.Thread(target=self.exact, args=(share,), daemon=True)
        thread.start()
        thread.join(SLICE if threads > 1 else share)
        length, k = SLICE, 0
        while not self.settled and self.left > 0.1 and self.best.fits:
            seconds = min(length, self.left)
            answer = get_solver("lns")[1](
                self.problem, time_limit=seconds, seed=self.seed + k, start=self.best.schedule
            )
            self.offer(answer.schedule)
            if answer.scope == FIXED_ORDER and answer.lower_bound:
                return answer
            length, k = 1.5 * length, k + 1
        thread.join(self.left)
        self.offer(self.found.schedule)
        return self.found

    @property
    def settled(self) -> bool:
        """Whether the exact program has met its bound."""
        self.offer(self.found.schedule)
        return self.found.infeasible or (
            self.best.fits and self.best.cost <= self.found.lower_bound
        )
