"""Schedules that recompute chosen ops once each, just before they are needed again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pebble.graph import Graph
from pebble.schedule import Schedule
from pebble.solvers.edits.halves import split_of

LIGHT = 100
"""A result with less than this part of its op's bytes is light."""


def _heavy(graph: Graph) -> NDArray[np.bool_]:
    """Which values are at least a hundredth of what their op makes, shape (n_values,)."""
    a = graph.arrays
    made = np.bincount(a.producer[a.out_val], weights=a.size[a.out_val], minlength=len(graph.ops))
    return (a.size * LIGHT >= made[a.producer]) & ~a.pinned


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
        The ops whose results op i must find, save those that are always there: pinned ones, and
        light ones that the forward half reads after the heavy ones are gone.
    gone : list of int
        Last forward reader of op i (itself if there is none): a chosen op's results are gone
        after it. ``n_ops`` for ops of the backward half, whose results never go. Light results
        beside heavy ones (the statistics of a normalisation) do not decide.
    back : list of int
        First backward reader of op i, or ``n_ops``.
    """

    def __init__(self, graph: Graph) -> None:
        a, n = graph.arrays, len(graph.ops)
        self.graph = graph
        self.split = split_of(graph)
        reader, maker = np.repeat(np.arange(n), np.diff(a.in_ptr)), a.producer[a.in_val]
        ahead, heavy = reader <= self.split, _heavy(graph)[a.in_val]
        gone, back = np.arange(n), np.full(n, n)
        gone[self.split + 1 :] = n
        np.maximum.at(gone, maker[ahead & heavy], reader[ahead & heavy])
        np.minimum.at(back, maker[~ahead], reader[~ahead])
        back[self.split + 1 :] = n
        counts = ~a.pinned[a.in_val] & ~(ahead & (reader > gone[maker]))
        pairs = np.unique(reader[counts] * n + maker[counts])
        self._reader, self._maker = pairs // max(n, 1), pairs % max(n, 1)
        ends = np.searchsorted(self._reader, np.arange(n + 1))
        makers = self._maker.tolist()
        self.makers = [makers[x:y] for x, y in pairwise(ends.tolist())]
        self.gone, self.back = gone.tolist(), back.tolist()

    def schedule(self, again: Sequence[bool]) -> Schedule:
        """The schedule that recomputes the ops i with ``again[i]`` where they are needed.

        Parameters
        ----------
        again : sequence of bool, shape (n_ops,)
            Only recomputable ops may be chosen.
        """
        n, gone = len(self.graph.ops), self.gone
        order = list(range(min(self.split + 1, n)))
        fresh = bytearray(n)
        # Forward readers come before a result is gone: only later ones can miss it.
        missing = np.array(again, np.bool_)[self._maker] & (self._reader > self.split)
        seen = len(order)
        for now in np.unique(self._reader[missing]).tolist():
            order.extend(range(seen, now))
            seen = now
            lost = [p for p in self.makers[now] if again[p] and gone[p] < now and not fresh[p]]
            if lost:
                order.extend(self._closure(lost, now, again, fresh))
        order.extend(range(seen, n))
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
