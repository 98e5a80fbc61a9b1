"""The portfolio in the reference order: the exact program, annealing and neighbourhoods."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from pebble.errors import PebbleError
from pebble.problem import Objective, Problem
from pebble.schedule import FIXED_ORDER, FREE_ORDER, Schedule
from pebble.solver import Answer, Halt, Progress, get_solver
from pebble.solvers.annealing.search import Search
from pebble.solvers.edits.incumbent import Incumbent
from pebble.solvers.integer.moment_programs import crossing_lower_bound
from pebble.solvers.integer.reference_order import in_class, in_reference_order
from pebble.solvers.portfolio.guests import invite

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

    `ilp` searches the whole class in a thread; annealing and `lns` improve the incumbent beside it,
    or after it where there is one thread only.

    Parameters
    ----------
    deadline : float
        On `time.perf_counter`.

    Returns
    -------
    Answer
        With a bound for any order where that one is met, else for the fixed order.
    """
    search = _FixedOrderSearch(problem, deadline, seed, report)
    for schedule in (Schedule.keep_all(problem.graph), *start):
        search.offer(schedule)
    search.ask("greedy", "chain")
    said = search.invite(threads)
    answer = _searched(search, threads)
    return replace(answer, message=f"{answer.message} {said}".strip())


def _searched(search: _FixedOrderSearch, threads: int) -> Answer:
    """The exact program, with annealing and neighbourhoods beside it where it does not end."""
    problem, deadline = search.problem, search.deadline
    if problem.objective is Objective.PEAK:
        return search.exact(search.left)
    floor = crossing_lower_bound(
        problem, deadline=min(deadline, time.perf_counter() + search.left / 8)
    )
    if floor is None:
        message = "What one moment must hold exceeds the budget, in any order."
        return Answer(search.best.schedule, infeasible=True, message=message)
    if not search.meets(floor):
        search.beside(threads)
    found, best = search.found, search.best
    if search.meets(floor):
        return Answer(best.schedule, floor, FREE_ORDER)
    if not best.fits:
        return Answer(best.schedule, found.lower_bound, FIXED_ORDER, found.infeasible)
    return Answer(best.schedule, max(floor, min(found.lower_bound, best.cost)), FIXED_ORDER)


class _FixedOrderSearch:
    def __init__(
        self,
        problem: Problem,
        deadline: float,
        seed: int,
        report: Callable[[Progress], None],
    ) -> None:
        self.problem, self.deadline, self.seed = problem, deadline, seed
        self.best = Incumbent(problem, "auto", report)
        self.found, self.halt = Answer(None), Halt()

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

    def invite(self, threads: int) -> str:
        """Ask other people's solvers; what is to be said of them."""
        known = [] if self.best.schedule is None else [self.best.schedule]
        return invite(
            self.problem,
            known,
            lambda schedule, name: self.offer(schedule),
            deadline=self.deadline,
            seed=self.seed,
            threads=threads,
        )

    def meets(self, bound: int) -> bool:
        """Whether the best schedule costs no more than a bound."""
        return self.best.fits and self.best.cost <= bound

    def exact(self, seconds: float) -> Answer:
        """What `ilp` finds and proves."""
        known = [] if self.best.schedule is None else [self.best.schedule]
        self.found = get_solver("ilp")[1](
            self.problem, time_limit=seconds, seed=self.seed, start=known, halt=self.halt
        )
        return self.found

    def beside(self, threads: int) -> None:
        """`ilp` in a thread; annealing and `lns` take turns beside it, or after it."""
        told = in_reference_order(self.problem)
        annealing = Search(told, seed=self.seed, deadline=self.deadline)
        if self.best.schedule is not None:
            annealing.offer(self.best.schedule.order, "start")
        if threads == 1:  # ilp gets the second part, and a better start
            annealing.deadline -= self.left / 2
        else:
            annealing.run(rounds=3, threads=threads)
            self.take(annealing)
        thread = threading.Thread(target=self.exact, args=(self.left,), daemon=True)
        if threads > 1:
            thread.start()
        length, k = SLICE, 0
        while not self.settled and time.perf_counter() < annealing.deadline - 0.1:
            annealing.run(rounds=1, threads=max(threads - 1, 1))
            self.take(annealing)
            if self.best.fits:
                self.polish(min(length, self.left), k)
                length, k = 1.5 * length, k + 1
        if threads == 1:
            self.exact(self.left)
        elif not self.settled:
            thread.join(self.left)
        if thread.is_alive():
            self.halt.end(thread)
        self.offer(self.found.schedule)

    def take(self, annealing: Search) -> None:
        """Take into account what annealing has found."""
        if annealing.best is not None:
            self.offer(Schedule(annealing.best))

    def polish(self, seconds: float, k: int) -> None:
        """Neighbourhoods of the incumbent."""
        if self.settled:
            return
        answer = get_solver("lns")[1](
            self.problem, time_limit=seconds, seed=self.seed + k, start=self.best.schedule
        )
        self.offer(answer.schedule)
        if answer.scope == FIXED_ORDER and answer.lower_bound > self.found.lower_bound:
            self.found = answer

    @property
    def settled(self) -> bool:
        """Whether the incumbent meets what is proved, or nothing fits."""
        self.offer(self.found.schedule)
        return self.found.infeasible or self.meets(self.found.lower_bound)
