"""An arena: one piece of memory in which every tensor has an offset fixed beforehand.

Finding the smallest arena is dynamic storage allocation, NP-hard (Garey and Johnson 1979, SR2).
The heuristic here places tensors by falling size, each into the smallest gap between those that
are alive at the same time: greedy by size, Pisarchyk and Lee, "Efficient Memory Management for
Deep Neural Net Inference" (2020); best fit after sorting goes back to Sekiyama et al., "Profile-
guided memory optimization for deep neural networks" (2018), which sorts by lifetime: both orders
are tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pebble.allocator.rules import MIN_BLOCK_BYTES
from pebble.graph import Graph, IntArray
from pebble.schedule import Schedule, retention


@dataclass(frozen=True)
class Arena:
    """Tensors with their places.

    Attributes
    ----------
    size, offset : IntArray, shape (n_tensors,)
        Bytes, sizes rounded to 512.
    start, end : IntArray, shape (n_tensors,)
        First and last step of the schedule in which each is alive, inclusive.
    """

    size: IntArray
    offset: IntArray
    start: IntArray
    end: IntArray

    @property
    def bytes(self) -> int:
        """Of the whole arena."""
        return int((self.offset + self.size).max(initial=0))

    @property
    def live_peak(self) -> int:
        """The most that is alive at once: no arena is smaller."""
        if not len(self.size):
            return 0
        live = np.zeros(int(self.end.max()) + 2, np.int64)
        np.add.at(live, self.start, self.size)
        np.add.at(live, self.end + 1, -self.size)
        return int(live.cumsum().max())

    @property
    def excess(self) -> float:
        """How much larger it is than the peak, as a fraction."""
        return self.bytes / max(self.live_peak, 1) - 1


def schedule_arena(graph: Graph, schedule: Schedule) -> Arena:
    """An arena for the values and workspaces of a schedule.

    Examples
    --------
    >>> import networkx as nx
    >>> from pebble.graph import Graph
    >>> chain = Graph.from_networkx(nx.path_graph(4, create_using=nx.DiGraph))
    >>> arena = schedule_arena(chain, Schedule.keep_all(chain))
    >>> arena.offset.tolist(), arena.bytes, arena.excess
    ([0, 512, 0, 512], 1024, 0.0)
    """
    kept, a = retention(graph, schedule), graph.arrays
    order = np.array(schedule.order, np.int64)
    at = np.flatnonzero(a.workspace[order])
    size = np.concatenate([a.size[kept.value], a.workspace[order][at]])
    start, end = np.concatenate([kept.start, at]), np.concatenate([kept.end, at])
    there = size > 0
    rounded = -(-size[there] // MIN_BLOCK_BYTES) * MIN_BLOCK_BYTES
    return packed(rounded, start[there], end[there])


def packed(size: IntArray, start: IntArray, end: IntArray) -> Arena:
    """Offsets for tensors of these sizes and lifetimes: the smaller of two greedy packings."""
    by_size = np.lexsort((start, -size))
    by_lifetime = np.lexsort((start, -size, start - end))
    arenas = []
    for order in (by_size, by_lifetime):
        arenas.append(Arena(size, _offsets(size, start, end, order.tolist()), start, end))
        if arenas[-1].bytes == arenas[-1].live_peak:
            break
    return min(arenas, key=lambda arena: arena.bytes)


def _offsets(size: IntArray, start: IntArray, end: IntArray, order: Sequence[int]) -> IntArray:
    offset = np.zeros(len(size), np.int64)
    placed = np.zeros(0, np.int64)  # tensors by offset
    for tensor in order:
        together = placed[(start[placed] <= end[tensor]) & (end[placed] >= start[tensor])]
        place = _smallest_gap(offset[together], size[together], int(size[tensor]))
        offset[tensor] = place
        placed = np.insert(placed, np.searchsorted(offset[placed], place), tensor)
    return offset


def _smallest_gap(offset: IntArray, size: IntArray, wanted: int) -> int:
    """The lowest of the smallest gaps that a tensor fits into; else above all others."""
    if not len(offset):
        return 0
    tops = np.maximum.accumulate(offset + size)
    begins = np.concatenate([[0], tops[:-1]])
    gaps = offset - begins
    fitting = np.flatnonzero(gaps >= wanted)
    if not len(fitting):
        return int(tops[-1])
    return int(begins[fitting[gaps[fitting].argmin()]])
