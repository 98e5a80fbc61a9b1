"""Random numbers: the state belongs to the board, so that threads do not share it."""

from __future__ import annotations

import numpy as np

from pebble.compiling import inner


@inner
def draw(board):  # type: ignore[no-untyped-def]
    """A random 62-bit integer (xorshift64*)."""
    x = board.random[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    board.random[0] = x
    return np.int64((x * np.uint64(2685821657736338717)) >> np.uint64(2))


@inner
def below(board, n):  # type: ignore[no-untyped-def]
    """A random integer in 0 .. n - 1."""
    return ((draw(board) >> 31) * n) >> 31


@inner
def uniform(board):  # type: ignore[no-untyped-def]
    """A random float in (0, 1)."""
    return (float(draw(board) >> 10) + 0.5) * (1.0 / 4503599627370496.0)
