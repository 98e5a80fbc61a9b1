"""Borders between segments of the forward half, and what is saved at them."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from pebble.graph import Graph, IntArray
from pebble.solvers.edits.recompute_once import RecomputeOnce


def choose_borders(graph: Graph, crossing: IntArray, count: int) -> tuple[int, ...]:
    """Last ops of about `count` segments but the final one, where few bytes cross.

    Positions are taken by the bytes that cross them, fewest first, unless one is taken already
    within 3/4 of an equal share of the bytes that the forward half makes. In a network of
    repeated layers that is the same position in each.
    """
    a, last = graph.arrays, len(crossing) - 1
    made = np.diff(np.concatenate(([0], np.cumsum(a.size[a.out_val])))[a.out_ptr])
    at = np.cumsum(made[: last + 1]).tolist()
    if count < 2 or not at or not at[-1]:
        return ()
    apart = 0.75 * at[-1] / count
    taken: list[float] = [0.0, float(at[-1])]
    borders = []
    for p in np.argsort(crossing[:last], kind="stable").tolist():
        k = bisect_left(taken, at[p])
        if at[p] - taken[k - 1] >= apart and taken[k] - at[p] >= apart:
            taken.insert(k, at[p])
            borders.append(p)
    return tuple(sorted(borders))


def crossers(recompute: RecomputeOnce, borders: tuple[int, ...]) -> NDArray[np.bool_]:
    """Ops with a result that crosses a border within the forward half, shape (n_ops,)."""
    n, split = len(recompute.graph.ops), recompute.split
    position = np.arange(n)
    next_border = np.append(np.array(borders, np.int64), n)[np.searchsorted(borders, position)]
    return (next_border < np.array(recompute.gone)) & (position <= split)
