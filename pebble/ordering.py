"""Topological orders of numbered nodes, and the cycle where there is none."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


class Cycle(Exception):
    """There is no topological order; `nodes` is a cycle, each node read by the next."""

    def __init__(self, nodes: list[int]) -> None:
        super().__init__(cycle_text(nodes))
        self.nodes = nodes


def topological_order(reads: Sequence[Sequence[int]]) -> list[int]:
    """The first topological order of nodes, taken in the order of their numbers.

    Parameters
    ----------
    reads : sequence of sequences of int
        Which nodes each node reads, each of them once.

    Raises
    ------
    Cycle
        If there is none.

    Examples
    --------
    >>> topological_order([[2], [0], []])
    [2, 0, 1]
    """
    readers: list[list[int]] = [[] for _ in reads]
    for v, read in enumerate(reads):
        for u in read:
            readers[u].append(v)
    missing = [len(read) for read in reads]
    ready = [v for v, number in enumerate(missing) if number == 0]
    order: list[int] = []
    while ready:
        u = heapq.heappop(ready)
        order.append(u)
        for v in readers[u]:
            missing[v] -= 1
            if missing[v] == 0:
                heapq.heappush(ready, v)
    if len(order) < len(reads):
        raise Cycle(_a_cycle(reads, set(order)))
    return order


def _a_cycle(reads: Sequence[Sequence[int]], done: set[int]) -> list[int]:
    """A cycle among the nodes that are not done: each of these reads another one of them."""
    v = next(v for v in range(len(reads)) if v not in done)
    seen: dict[int, int] = {}
    while v not in seen:
        seen[v] = len(seen)
        v = next(u for u in reads[v] if u not in done)
    cycle = list(seen)[seen[v] :][::-1]
    first = cycle.index(min(cycle))
    return cycle[first:] + cycle[:first]


def cycle_text(names: Sequence[object]) -> str:
    """A cycle for a sentence, its middle left out where it is long.

    Examples
    --------
    >>> cycle_text(["a", "b"])
    'a -> b -> a'
    >>> cycle_text(range(100))
    '0 -> 1 -> 2 -> 3 -> ... (94 more) -> 98 -> 99 -> 0'
    """
    ends = names if len(names) <= 8 else (*names[:4], *names[-2:])
    shown = [str(name)[:60] for name in ends]
    if len(names) > len(ends):
        shown.insert(4, f"... ({len(names) - len(ends)} more)")
    return " -> ".join([*shown, shown[0]])
