"""What all searches over states share: how one goes on, and its states on the way to the goal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

LIMIT = 64
MOST_STATES = 12_000_000
_CHUNK = 20_000
_FIRST = 1 << 12

Advance = Callable[[Any, int], int]
"""Takes a store and about how much to do; returns how the search stands."""


class Exploration:
    """A search over states: what it has seen, and how it stands.

    Parameters
    ----------
    words : three words of 64 bits, optional
        The first state.
    bound, left : int
        What the first state costs at least, and what is left to do there.
    """

    def __init__(self, *words: Any, bound: int = 0, left: int = 0) -> None:
        from pebble.games.kernels import store as kernels

        self.kernels = kernels
        self.store = _new_store(_FIRST, np.zeros(5, np.int64))
        first = [np.uint64(word) for word in words or (0, 0, 0)]
        kernels.begin(self.store, *first, bound, left)
        self.status = kernels.RUNNING

    def run(self, advance: Advance, deadline: float | None, max_states: int) -> None:
        """Advance by chunks until the search ends, or time or states run out."""
        s = self.kernels
        while True:
            self.status = advance(self.store, _CHUNK)
            if self.status == s.FULL:
                self.store = _grown(self.store)
            elif self.status != s.RUNNING:
                return
            if deadline is not None and time.monotonic() > deadline:
                return
            if self.states > max_states:
                return

    @property
    def found(self) -> bool:
        """Whether the goal is reached."""
        return bool(self.status == self.kernels.FOUND)

    @property
    def exhausted(self) -> bool:
        """Whether all there is has been seen, and the goal was not there."""
        return bool(self.status == self.kernels.EXHAUSTED)

    @property
    def states(self) -> int:
        """States seen."""
        return int(self.store.counters[self.kernels.STATES])

    @property
    def bound(self) -> int:
        """What the goal costs at least (0 in a greedy search)."""
        return int(self.store.counters[self.kernels.BOUND])

    def path(self, images: Any) -> Iterator[tuple[int, list[int], list[int]]]:
        """The states on the way to the goal, each with its nodes before and after its move.

        A state stands for its images under automorphisms, so its nodes must be taken back: the two
        lists hold the node of the board for each node of the parent, and of the state.
        """
        store, state, states = self.store, int(self.store.counters[self.kernels.GOAL]), []
        while state > 0:
            states.append(state)
            state = int(store.parent[state])
        after = list(range(LIMIT))
        for state in reversed(states):
            before, which = after, int(store.image[state])
            if which:
                after, table = before.copy(), images[which - 1]
                for v in range(LIMIT):
                    image = int(table[v // 8, 1 << v % 8]).bit_length() - 1
                    if image >= 0:
                        after[image] = before[v]
            yield state, before, after


def _new_store(size: int, counters: Any) -> Any:
    from pebble.games.kernels.store import Store

    return Store(
        a=np.zeros(size, np.uint64),
        b=np.zeros(size, np.uint64),
        c=np.zeros(size, np.uint64),
        g=np.zeros(size, np.int64),
        parent=np.zeros(size, np.int32),
        move=np.zeros(size, np.int32),
        image=np.zeros(size, np.int32),
        closed=np.zeros(size, np.uint8),
        table=np.full(2 * size, -1, np.int32),
        heap_f=np.zeros(2 * size, np.int64),
        heap_h=np.zeros(2 * size, np.int64),
        heap_id=np.zeros(2 * size, np.int32),
        counters=counters,
    )


def _grown(store: Any) -> Any:
    """The same search with twice the room."""
    from pebble.games.kernels import store as s

    states, heap = int(store.counters[s.STATES]), int(store.counters[s.HEAP])
    bigger = _new_store(2 * len(store.a), store.counters)
    for name in ("a", "b", "c", "g", "parent", "move", "image", "closed"):
        getattr(bigger, name)[:states] = getattr(store, name)[:states]
    for name in ("heap_f", "heap_h", "heap_id"):
        getattr(bigger, name)[:heap] = getattr(store, name)[:heap]
    s.rehash(bigger, states)
    return bigger
