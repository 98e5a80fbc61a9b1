"""What a solver is called with: the keywords it may name, and how it is told to stop."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pebble.answers import Answer
from pebble.schedule import Schedule

Solver = Callable[..., Answer]
"""Takes a `Problem`, then keywords; see `pebble.solver.register` for those that have a meaning."""
CALL = ("time_limit", "seed", "report")
"""The keywords that every call offers; all others are options."""


@dataclass(frozen=True)
class Capabilities:
    """The keywords that a solver names in its signature.

    Attributes
    ----------
    keywords : tuple of str
        All of them, in the order of the signature.
    anything : bool
        Whether it takes keywords that it does not name (``**options``).
    """

    keywords: tuple[str, ...]
    anything: bool = False

    @classmethod
    def of(cls, function: Solver) -> Capabilities:
        """Those of a callable.

        Examples
        --------
        >>> def lazy(problem, *, seed=0, start=()): ...
        >>> lazy = Capabilities.of(lazy)
        >>> lazy.start, lazy.threads, lazy.select({"seed": 3, "threads": 2})
        (True, False, {'seed': 3})
        """
        parameters = list(inspect.signature(function).parameters.values())
        named = [p.name for p in parameters[1:] if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        return cls(tuple(named), any(p.kind is p.VAR_KEYWORD for p in parameters))

    @property
    def start(self) -> bool:
        """Whether it begins from known schedules."""
        return "start" in self.keywords

    @property
    def threads(self) -> bool:
        """Whether it can be told how many cores to use."""
        return "threads" in self.keywords

    @property
    def seed(self) -> bool:
        """Whether it draws at random."""
        return "seed" in self.keywords

    @property
    def halt(self) -> bool:
        """Whether it can be stopped from another thread."""
        return "halt" in self.keywords

    @property
    def options(self) -> tuple[str, ...]:
        """Its keywords besides those of every call."""
        return tuple(keyword for keyword in self.keywords if keyword not in CALL)

    def select(self, offered: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a call that it names."""
        return {key: value for key, value in offered.items() if key in self.keywords}


def schedules_of(start: Schedule | Iterable[Schedule]) -> list[Schedule]:
    """The schedules that a solver is told to begin from: one, or several.

    Examples
    --------
    >>> schedules_of(Schedule((0, 1)))
    [Schedule(order=(0, 1))]
    """
    return [start] if isinstance(start, Schedule) else list(start)


class Halt:
    """Stops a search, and those that would follow it, from another thread.

    A solver that takes one looks at `called` between two steps; where it waits for foreign code
    it says with `watch` how that is stopped.
    """

    def __init__(self) -> None:
        self.called = False
        self._stop: Callable[[], object] | None = None

    def call(self) -> None:
        """Stop now."""
        self.called = True
        if self._stop is not None:
            self._stop()

    def end(self, thread: threading.Thread) -> None:
        """Stop, and wait for the thread that searches; it may just be about to begin."""
        while thread.is_alive():
            self.call()
            thread.join(0.05)

    def watch(self, stop: Callable[[], object] | None) -> None:
        """What stops the search that is about to run; None once it is over."""
        self._stop = stop
