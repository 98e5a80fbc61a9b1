"""Schedules that recompute chosen ops once each, just before they are needed again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pebble.graph import Graph, IntArray, Phase
from pebble.schedule import Schedule


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
    """Bytes that are read across from ops 0..p to ops p+1..last, shape (last + 1,)."""
    a = graph.arrays
    delta = np.zeros(last + 1, np.int64)
    for v in np.flatnonzero((a.producer >= 0) & (a.producer <= last)):
        readers = a.use_op[a.use_ptr[v] : a.use_ptr[v + 1]]
        inside = int(np.searchsorted(readers, last, side="right"))
        if inside:
            delta[a.producer[v]] += a.size[v]
            delta[readers[inside - 1]] -= a.size[v]
    return np.cumsum(delta)


class RecomputeOnce:
    """Turns a choice of ops into a schedule in which each of them runs twice.

    Every op runs once in the reference order. The results of a chosen op are let go after their
    last reader of the forward half; it runs again just before its first reader of the backward
    half, or before another recomputation that reads it.

    Parameters
    ----------
    graph : Graph

    Attributes
    ----------
    split : int
        Last op of the forward half, see `split_of`.
    makers : list of list of int
        The ops whose results op i reads.
    gone : list of int
        Last forward reader of op i (itself if there is none): a chosen op's results are gone
        after it. ``n_ops`` for ops of the backward half, whose results never go.
    back : list of int
        First backward reader of op i, or ``n_ops``.
    """

    def __init__(self, graph: Graph) -> None:
        a, n = graph.arrays, len(graph.ops)
        self.graph = graph
        self.split = split_of(graph)
        producer, in_ptr, in_val = a.producer.tolist(), a.in_ptr.tolist(), a.in_val.tolist()
        self.makers = [
            sorted({producer[v] for v in in_val[in_ptr[i] : in_ptr[i + 1]]}) for i in range(n)
        ]
        self.gone = [i if i <= self.split else n for i in range(n)]
        self.back = [n] * n
        for i, makers in enumerate(self.makers):
            for p in makers:
                if i <= self.split:
                    self.gone[p] = i
                elif p <= self.split:
                    self.back[p] = min(self.back[p], i)

    def schedule(self, again: Sequence[bool]) -> Schedule:
        """The schedule that recomputes the ops i with ``again[i]`` where they are needed.

        Parameters
        ----------
        again : sequence of bool, shape (n_ops,)
            Only recomputable ops may be chosen.
        """
        order: list[int] = []
        fresh = bytearray(len(self.graph.ops))
        gone = self.gone
        for now, makers in enumerate(self.makers):
            lost = [p for p in makers if again[p] and gone[p] < now and not fresh[p]]
            if lost:
                order.extend(self._closure(lost, now, again, fresh))
            order.append(now)
        return Schedule(tuple(order))

    def _closure(
        self, lost: list[int], now: int, again: Sequence[bool], fresh: bytearray
    ) -> list[int]:
        """The lost ops and the lost ones they need, in the reference order; marks them fresh."""
        gone, stack = self.gone, lost
        found: list[int] = []
        while stack:
            p = stack.pop()
            if fresh[p]:
                continue
            fresh[p] = 1
            found.append(p)
            stack.extend(q for q in self.makers[p] if again[q] and gone[q] < now and not fresh[q])
        found.sort()
        return found
