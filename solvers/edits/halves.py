"""Where the forward half of a graph ends, and what is read across a place in it."""

from __future__ import annotations

import numpy as np

from pebble.graph import Graph, IntArray, Phase


def split_of(graph: Graph) -> int:
    """Index of the last op of the forward half in the reference order.

    That is the boundary, else the op before the first backward one, else (a graph without
    halves) the op after which the most bytes wait for a later reader.
    """
    if graph.boundary is not None:
        return graph.boundary
    backward = [i for i, op in enumerate(graph.ops) if op.phase is Phase.BACKWARD]
    if backward and backward[0] > 0:
        return backward[0] - 1
    last = len(graph.ops) - 1
    return int(crossing_bytes(graph, last).argmax()) if last >= 0 else 0


def crossing_bytes(graph: Graph, last: int) -> IntArray:
    """Bytes that are read across from ops 0..p to ops p+1..last, shape (last + 1,).

    Pinned values are there in any case and do not count.
    """
    a = graph.arrays
    inside = np.concatenate(([0], np.cumsum(a.use_op <= last)))
    count = inside[a.use_ptr[1:]] - inside[a.use_ptr[:-1]]
    loose = (a.producer >= 0) & ~a.pinned
    crossing = np.flatnonzero(loose & (a.producer <= last) & (count > 0))
    delta = np.zeros(last + 1, np.int64)
    np.add.at(delta, a.producer[crossing], a.size[crossing])
    last_reader = a.use_op[a.use_ptr[crossing] + count[crossing] - 1]
    np.add.at(delta, last_reader, -a.size[crossing])
    return np.cumsum(delta)
