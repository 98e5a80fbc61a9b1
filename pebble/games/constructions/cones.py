"""Reversible strategies of fewest moves: cone after cone, the order of the targets searched."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from pebble.games.board import Board
from pebble.games.moves import Move, place, remove

_EXACT_TARGETS = 16
_ROUNDS = 4000


def cone_strategy(
    board: Board, *, seed: int = 0, deadline: float | None = None
) -> tuple[Move, ...]:
    """The reversible strategy of fewest moves, with few pebbles for that.

    With every node placed once and removed once, a node that is no target stays until the last
    target above it is placed. So only the order of the targets matters: each one's cone is
    placed, then what no later target needs goes.

    Examples
    --------
    >>> from pebble.games import make_graph
    >>> len(cone_strategy(Board.of(make_graph("pyramid:2"))))
    11
    """
    order = order_targets(board, seed=seed, deadline=deadline)[0]
    return play_cones(board, order)


def order_targets(
    board: Board, *, seed: int = 0, deadline: float | None = None
) -> tuple[tuple[int, ...], int, bool]:
    """The order of the targets with the lowest peak: (order, pebbles, proved).

    Exact by dynamic programming over sets of targets up to 16 of them, else local search.
    """
    groups, first = _groups(board), _before(board)
    count = len(board.targets)
    if count <= _EXACT_TARGETS:
        order, peak = _order_exactly(groups, first)
        return tuple(board.targets[i] for i in order), peak, True
    order, peak = _order_by_search(groups, first, seed, deadline)
    return tuple(board.targets[i] for i in order), peak, False


def _groups(board: Board) -> dict[int, int]:
    """Nodes that are no targets, counted by the set of targets that keeps them alive."""
    index = {v: i for i, v in enumerate(board.targets)}
    above = [0] * len(board)
    groups: dict[int, int] = {}
    for v in reversed(range(len(board))):
        for w in board.succs[v]:
            above[v] |= 1 << index[w] if w in index else above[w]
        if v not in index and above[v]:
            groups[above[v]] = groups.get(above[v], 0) + 1
    return groups


def _before(board: Board) -> list[int]:
    """For each target the set of targets in its cone, which are placed before it."""
    index = {v: i for i, v in enumerate(board.targets)}
    return [
        sum(1 << index[u] for u in board.ancestors([t]) if u in index and u != t)
        for t in board.targets
    ]


def _live(groups: dict[int, int], before: int, target: int, done: int) -> int:
    """Pebbles when a target is placed after those in `before`."""
    now = before | 1 << target
    alive = sum(size for mask, size in groups.items() if mask & now and mask & ~before)
    return alive + done + 1


def _order_exactly(groups: dict[int, int], first: list[int]) -> tuple[list[int], int]:
    count = len(first)
    best = {0: (0, -1)}
    for size in range(count):
        layer = [mask for mask in best if mask.bit_count() == size]
        for before in layer:
            peak = best[before][0]
            for target in range(count):
                if before >> target & 1 or first[target] & ~before:
                    continue
                new = max(peak, _live(groups, before, target, size))
                now = before | 1 << target
                if now not in best or new < best[now][0]:
                    best[now] = (new, target)
    full = (1 << count) - 1
    order, mask = [], full
    while mask:
        order.append(best[mask][1])
        mask ^= 1 << best[mask][1]
    return order[::-1], best[full][0]


def _order_by_search(
    groups: dict[int, int], first: list[int], seed: int, deadline: float | None
) -> tuple[list[int], int]:
    """Greedy by the smallest new cone, then moves of one target."""
    rng, count = np.random.default_rng(seed), len(first)

    def profile(order: list[int]) -> tuple[int, int]:
        before, lives = 0, []
        for done, target in enumerate(order):
            if first[target] & ~before:
                return 1 << 60, 0
            lives.append(_live(groups, before, target, done))
            before |= 1 << target
        return max(lives), sum(lives)

    order: list[int] = []
    before = 0
    while len(order) < count:
        left = [t for t in range(count) if not before >> t & 1 and not first[t] & ~before]
        order.append(min(left, key=lambda t: _live(groups, before, t, len(order))))
        before |= 1 << order[-1]
    best = profile(order)
    for _ in range(_ROUNDS):
        if deadline is not None and time.monotonic() > deadline:
            break
        i, j = (int(x) for x in rng.integers(count, size=2))
        trial = order.copy()
        trial.insert(j, trial.pop(i))
        new = profile(trial)
        if new <= best:
            order, best = trial, new
    return order, best[0]


def play_cones(board: Board, order: Iterable[int]) -> tuple[Move, ...]:
    """The strategy that places the cones of the targets in an order, and what it keeps alive goes.

    Each node is placed once and removed once.
    """
    targets = set(board.targets)
    open_readers = [len(readers) for readers in board.succs]
    placed: set[int] = set()
    moves: list[Move] = []

    def finish(v: int) -> None:
        """No reader needs v any more: undo what only v kept alive."""
        for u in reversed(board.preds[v]):
            open_readers[u] -= 1
            if not open_readers[u] and u not in targets:
                moves.append(remove(u))
                finish(u)

    for target in order:
        for v in sorted(board.ancestors([target]) - placed):
            placed.add(v)
            moves.append(place(v))
            if v in targets:
                finish(v)
    return tuple(moves)
