"""What all searches over states share: how one goes on, and its states on the way to the goal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pebble.games.board import Board
from pebble.games.position import Game
from pebble.games.rules import Black, BlackWhite, InPlace, RedBlue, Reversible, Spooky

LIMIT = 64
MOST_STATES = 12_000_000
_CHUNK = 20_000
_FIRST = 1 << 12

Advance = Callable[[Any, Any, int], int]
"""Takes a store, its counters and about how much to do; returns how the search stands."""


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
        self.counters, self.store = np.zeros(5, np.int64), _new_store(_FIRST)
        first = [np.uint64(word) for word in words or (0, 0, 0)]
        kernels.begin(self.store, self.counters, *first, bound, left)
        self.status = kernels.RUNNING

    def run(self, advance: Advance, deadline: float | None, max_states: int) -> None:
        """Advance by chunks until the search ends, or time or states run out."""
        s = self.kernels
        while True:
            self.status = advance(self.store, self.counters, _CHUNK)
            if self.status == s.FULL:
                self.store = _grown(self.store, self.counters)
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
        return int(self.counters[self.kernels.STATES])

    @property
    def bound(self) -> int:
        """What the goal costs at least (0 in a greedy search)."""
        return int(self.counters[self.kernels.BOUND])

    def path(self, images: Any) -> Iterator[tuple[int, list[int], list[int]]]:
        """The states on the way to the goal, each with its nodes before and after its move.

        A state stands for its images under automorphisms, so its nodes must be taken back: the two
        lists hold the node of the board for each node of the parent, and of the state.
        """
        store, state, states = self.store, int(self.counters[self.kernels.GOAL]), []
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


def translate(game: Game, board: Board, pebbles: int) -> tuple[Any, Any]:
    """The rules as numbers; the board as bit sets, and what lies in slow memory at first."""
    from pebble.games.kernels import rules as k

    code = {
        Black: k.BLACK, Reversible: k.REVERSIBLE, BlackWhite: k.BLACK_WHITE, Spooky: k.SPOOKY,
        RedBlue: k.RED_BLUE,
    }.get(type(game), k.BLACK)  # fmt: skip
    n = len(board)
    ghosts = getattr(game, "ghosts", 0)
    rules = np.zeros(7, np.int64)
    rules[k.GAME], rules[k.CAPACITY], rules[k.N] = code, pebbles, n
    rules[k.GHOSTS] = n if ghosts is None else ghosts
    rules[k.SLIDE] = getattr(game, "slide", False)
    rules[k.HOLD] = getattr(game, "hold", False)
    rules[k.RECOMPUTE] = getattr(game, "recompute", True)
    plain = board if game.weighted else board.unweighted()
    size, cost = np.array(plain.sizes, np.int64), np.array(plain.costs, np.int64)
    blue, zero = 0, np.zeros(n, np.int64)
    place_cost, remove_cost, load_cost, store_cost = cost, cost, zero, zero
    if isinstance(game, RedBlue):
        place_cost, load_cost, store_cost = game.compute * cost, game.load * size, game.store * size
        blue = _mask(board.sources) if game.blue_inputs else 0
    ancestors = [board.ancestors([v]) for v in range(n)]
    tables = k.Tables(
        preds=_words(board.preds),
        succs=_words(board.succs),
        ancestors=_words(ancestors),
        size=size,
        extra=np.array(plain.workspaces, np.int64),
        place_cost=place_cost,
        remove_cost=remove_cost,
        load_cost=load_cost,
        store_cost=store_cost,
        one=np.ones(n, np.int64),
        masks=np.array([_mask(board.targets), blue], np.uint64),
    )
    return rules, tables


def translate_in_place(game: InPlace, board: Board, pebbles: int) -> tuple[Any, Any]:
    """The same for the in-place game, whose search counts the inputs that are there as pebbles."""
    from pebble.games.kernels import in_place as k

    in_place = game.in_place(board)
    above = [0] * len(board)
    for v in reversed(in_place):
        for u in board.preds[v]:
            above[u] |= 1 << v | above[v]
    rules = np.zeros(2, np.int64)
    rules[k.CAPACITY], rules[k.N] = pebbles + len(board.sources), len(board)
    network = k.Network(
        preds=_words(board.preds),
        above=np.array(above, np.uint64),
        one=np.ones(len(board), np.int64),
        masks=_words([board.targets, board.sources, in_place]),
    )
    return rules, network


def _mask(nodes: Any) -> int:
    return sum(1 << v for v in nodes)


def _words(rows: Any) -> Any:
    return np.array([_mask(row) for row in rows], np.uint64)


def _new_store(size: int) -> Any:
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
    )


def _grown(store: Any, counters: Any) -> Any:
    """The same search with twice the room."""
    from pebble.games.kernels import store as s

    states, heap = int(counters[s.STATES]), int(counters[s.HEAP])
    bigger = _new_store(2 * len(store.a))
    for name in ("a", "b", "c", "g", "parent", "move", "image", "closed"):
        getattr(bigger, name)[:states] = getattr(store, name)[:states]
    for name in ("heap_f", "heap_h", "heap_id"):
        getattr(bigger, name)[:heap] = getattr(store, name)[:heap]
    s.rehash(bigger, states)
    return bigger
