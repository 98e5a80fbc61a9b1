"""What a caller sees while a solver searches."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

from pebble.answers import Progress

logger = logging.getLogger("pebble")


@contextlib.contextmanager
def display_progress(on: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A report that logs at most once a second, shown on the standard error if `on`."""
    if not on:
        yield None
        return
    handler = logging.StreamHandler()
    level, last = logger.level, [0.0]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def report(progress: Progress) -> None:
        if time.monotonic() - last[0] >= 1.0:
            last[0] = time.monotonic()
            logger.info("%s", progress)

    try:
        yield report
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
