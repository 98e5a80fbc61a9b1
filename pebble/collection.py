"""Python's garbage collection, kept out of what must not be disturbed by it."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """No garbage collection meanwhile.

    It takes time again and again in a capture, which makes many objects that stay, and would free
    other people's tensors inside a measurement.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
