"""One time limit for a call and all its parts."""

from __future__ import annotations

import time
from collections.abc import Callable

QUICK_SECONDS = 0.5
"""What a part gets that must run although the time is up: enough for one quick plan."""


class Deadline:
    """The end of a call; its parts get shares of what is left.

    Parameters
    ----------
    seconds : float
        From now on.
    clock : callable
        Seconds that only grow.

    Examples
    --------
    >>> now = [0.0]
    >>> deadline = Deadline(10.0, clock=lambda: now[0])
    >>> now[0] = 4.0
    >>> deadline.left, deadline.share(0.5)
    (6.0, 3.0)
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        """Seconds until the end, 0 after it."""
        return max(self._end - self._clock(), 0.0)

    def share(self, fraction: float = 1.0) -> float:
        """Seconds for a part: a fraction of what is left, never less than a quick plan takes."""
        return max(fraction * self.left, QUICK_SECONDS)


class Turns:
    """Even shares of a deadline for so many parts; what one leaves goes to those that follow.

    Examples
    --------
    >>> now = [0.0]
    >>> turns = Turns(Deadline(12.0, clock=lambda: now[0]), 3)
    >>> turns.next(), turns.next()
    (4.0, 6.0)
    """

    def __init__(self, deadline: Deadline, parts: int) -> None:
        self._deadline, self._left = deadline, parts

    def next(self) -> float:
        """Seconds for the next part."""
        seconds = self._deadline.share(1 / max(self._left, 1))
        self._left -= 1
        return seconds
