"""The bound for any order, proved in a thread beside the search."""

from __future__ import annotations

import threading

from pebble.solver import Answer, Halt
from pebble.solvers.annealing.search import Search
from pebble.solvers.integer.moment_programs import crossing_lower_bound

QUICK = 0.3
"""Seconds that the search waits for the bound before it goes on beside it."""


class Floor:
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
        bound = crossing_lower_bound(search.problem, deadline=search.deadline, halt=self._halt)
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
