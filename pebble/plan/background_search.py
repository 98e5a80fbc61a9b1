"""Searches that go on while a module trains by the first plan that was found for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pebble.answers import Result
from pebble.deadline import Deadline
from pebble.plan.search import PlanSearch
from pebble.plan.step_search import Found

logger = logging.getLogger("pebble")


class Bettered(NamedTuple):
    """What a search has found beside training, where it is cheaper than what was there.

    Attributes
    ----------
    old : Found
    result : Result
    search : PlanSearch
    seconds : float
        That it took.
    """

    old: Found
    result: Result
    search: PlanSearch
    seconds: float


@dataclass
class _Wish:
    """A plan that may be bettered, and the search that may do so."""

    found: Found
    search: PlanSearch
    seconds: float  # left when it was wished for
    thread: threading.Thread | None = None
    results: list[tuple[Result, float]] = field(default_factory=list)

    def begin(self) -> None:
        self.thread = threading.Thread(target=self._run, name="pebble search", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        began = time.perf_counter()
        quiet = replace(self.search.options, display=False)
        search = replace(self.search, options=quiet, deadline=Deadline(self.seconds))
        try:
            result = search.find(self.found.step.footprint, self.found.result.schedule)
        except Exception as error:  # a thread has nobody to raise to; the first plan stays
            logger.warning("No better plan is looked for: %s", error)
            return
        if result is not None:
            self.results.append((result, time.perf_counter() - began))

    @property
    def runs(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def outcome(self) -> Bettered | None:
        """What was found, if it is cheaper."""
        for result, seconds in self.results:
            before, after = self.found.result.trace, result.trace
            if after is not None and before is not None and after.cost < before.cost:
                return Bettered(self.found, result, self.search, seconds)
        return None


class BackgroundSearch:
    """Looks for better plans in a thread, one plan at a time; what it finds is asked for.

    Solvers leave the interpreter to others most of the time. Copies begin with nothing to look for.
    """

    def __init__(self) -> None:
        self._wishes: dict[Hashable, _Wish] = {}

    def __reduce__(self) -> tuple[type[BackgroundSearch], tuple[()]]:
        return BackgroundSearch, ()

    def __len__(self) -> int:
        """How many plans may still be bettered."""
        return len(self._wishes)

    def wish(self, key: Hashable, found: Found, search: PlanSearch) -> None:
        """Have a plan bettered, in the time that the search has left, once no other one runs."""
        self._wishes[key] = _Wish(found, search, search.deadline.left)
        self._begin_next()

    def better(self, key: Hashable) -> Bettered | None:
        """What is better than a plan, once; None while it is looked for, or if nothing is."""
        wish = self._wishes.get(key)
        if wish is None or wish.thread is None or wish.runs:
            return None
        del self._wishes[key]
        self._begin_next()
        return wish.outcome()

    def wait(self) -> None:
        """Until no search runs and none is to begin."""
        for wish in list(self._wishes.values()):
            self._begin_next()
            if wish.thread is not None:
                wish.thread.join()
        self._begin_next()

    def _begin_next(self) -> None:
        if any(wish.runs for wish in self._wishes.values()):
            return
        waiting = next((wish for wish in self._wishes.values() if wish.thread is None), None)
        if waiting is not None:
            waiting.begin()
