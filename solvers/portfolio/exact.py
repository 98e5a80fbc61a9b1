"""The exact program of the reference order, in a thread beside the search."""

from __future__ import annotations

import threading
import time

from pebble.errors import PebbleError
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Halt, get_solver
from pebble.solvers.annealing.search import Search

GRACE = 0.15
"""Seconds kept back from the time limit for the replay."""


class ExactSearch:
    """The exact solver in a thread of its own."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self._halt = Halt()
        self._found: Answer | None = None
        self._taken: Answer | None = None
        self._thread = threading.Thread(target=self._search, daemon=True)
        self._thread.start()

    def _search(self) -> None:
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
        """Whether it is still searching."""
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
