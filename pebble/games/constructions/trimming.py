"""Reversible strategies made better, move by move.

Pebbles come as late and go as soon as they can, nothing comes for nothing, and where there is room
a pebble stays instead of going and coming back.

A move of the reversible game toggles a node whose predecessors carry pebbles, and more pebbles on
the board break no move. So the removal of a node and its next placement can both be left out if
the board has room for it in between; what was there only for these two moves is then left out too.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence

from pebble.games.board import Board
from pebble.games.constructions.timetable import filled
from pebble.games.moves import Move, place, remove

_MOST_MOVES = 50_000
"""Longer strategies stay as they are: they would take too long."""
_PATIENCE = 20
"""Tries in a row without fewer moves after which no more are made."""


def tightened(board: Board, moves: Sequence[Move]) -> tuple[Move, ...]:
    """The same strategy with each placement as late and each removal as early as it can be.

    Its peak is no higher, and pebbles that nothing needs do not come at all.

    Parameters
    ----------
    moves : sequence of Move
        A strategy of the reversible game that ends with pebbles on the targets only.

    Examples
    --------
    >>> from pebble.games import make_graph
    >>> board = Board.of(make_graph("path:3"), targets=[1])
    >>> print(*tightened(board, [place(0), place(1), place(2), remove(2), remove(0)]), sep=", ")
    place 0, place 1, remove 0
    """
    return _as_moves(_squeezed(board, [move.node for move in moves]))


def trimmed(
    board: Board, moves: Sequence[Move], pebbles: int, *, deadline: float, seed: int = 0
) -> tuple[Move, ...]:
    """A strategy of fewer moves with at most so many pebbles, by greedy choices of what stays.

    Parameters
    ----------
    moves : sequence of Move
        A strategy as in `tightened` that needs no more pebbles than that. Beyond 50,000 moves it
        stays as it is.
    deadline : float
        Value of ``time.monotonic()``; until then other choices are tried, at least one.

    Examples
    --------
    >>> from pebble.games import make_graph
    >>> from pebble.games.constructions.lines import bennett_strategy
    >>> board = Board.of(make_graph("path:16"))
    >>> moves = bennett_strategy(2, 4)
    >>> [len(trimmed(board, moves, k, deadline=0.0)) for k in (5, 16)]
    [71, 31]
    """
    if len(moves) > _MOST_MOVES:
        return tuple(moves)
    start = best = _squeezed(board, [move.node for move in moves])
    rng, failures = random.Random(seed), 0
    while failures < _PATIENCE:
        nodes = _shortened(board, start, pebbles, rng, deadline)
        failures = 0 if len(nodes) < len(best) else failures + 1
        best = min(best, nodes, key=len)
        if time.monotonic() > deadline:
            break
    return _as_moves(best)


def _shortened(
    board: Board, nodes: list[int], pebbles: int, rng: random.Random, deadline: float
) -> list[int]:
    """Fill and squeeze by turns until neither helps."""
    while True:
        shorter = _squeezed(board, filled(board, nodes, pebbles, rng, deadline))
        if len(shorter) >= len(nodes):
            return nodes
        nodes = shorter


def _as_moves(nodes: Iterable[int]) -> tuple[Move, ...]:
    on: set[int] = set()
    moves = []
    for v in nodes:
        moves.append(remove(v) if v in on else place(v))
        on ^= {v}
    return tuple(moves)


def _squeezed(board: Board, nodes: list[int]) -> list[int]:
    """Placements late and, as a strategy backwards is one of the way back, removals early."""
    late = _late(board, nodes, ())
    return _late(board, late[::-1], board.targets)[::-1]


def _late(board: Board, nodes: Iterable[int], start: Iterable[int]) -> list[int]:
    """The same toggles, a placement only when a move needs the pebble."""
    on, waiting, made = set(start), dict[int, None](), list[int]()

    def bring(v: int) -> None:
        stack = [v]
        while stack:
            top = stack[-1]
            missing = [u for u in board.preds[top] if u in waiting]
            if missing:
                stack += missing
                continue
            stack.pop()
            if top in waiting:
                del waiting[top]
                on.add(top)
                made.append(top)

    for v in nodes:
        if v not in on and v not in waiting:
            waiting[v] = None
            continue
        for w in board.succs[v]:  # they need v, which goes
            if w in waiting:
                bring(w)
        if v in waiting:  # nothing needed it
            del waiting[v]
            continue
        for u in board.preds[v]:
            if u in waiting:
                bring(u)
        on.remove(v)
        made.append(v)
    while waiting:
        bring(next(iter(waiting)))
    return made
