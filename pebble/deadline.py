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
    >>> deadline.left, deadline.share(0.5), deadline.passed
    (6.0, 3.0, False)
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        """Seconds until the end, 0 after it."""
        return max(self._end - self._clock(), 0.0)

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return self.left <= 0.0

    def share(self, fraction: float = 1.0) -> float:
        """Seconds for a part: a fraction of what is left, never less than a quick plan takes."""
        return max(fraction * self.left, QUICK_SECONDS)
