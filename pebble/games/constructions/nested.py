"""Reversible strategies between the two ends: fewer pebbles for more moves, on any graph.

At level 0 the whole cone of a node is placed and taken back but for the node. At a level above,
each predecessor is reached in turn at the level below and given up again once the node is placed.
Every level about doubles the moves and shrinks what is on the board at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from pebble.games.board import Board
from pebble.games.moves import Act, Move, place, remove

_MOST_MOVES = 200_000
_CHEAP = 20_000
"""So many moves take a tenth of a second: they are made also where a search used up the time."""
_LEVELS = 24
_SMALL = 4
"""Cones of so many nodes are placed whole at any level: going deeper would save no pebble."""


class TooLong(Exception):
    """The strategy of a level has more moves than anyone wants."""


def nested_strategy(
    board: Board, level: int, order: Iterable[int], *, most_moves: int = _MOST_MOVES
) -> tuple[Move, ...]:
    """The strategy of a level; the targets are reached in the given order.

    Raises
    ------
    TooLong
        If it would have more than `most_moves` moves.

    Examples
    --------
    >>> from pebble.games import Reversible, make_graph, play
    >>> board = Board.of(make_graph("tree:2x3"))
    >>> [play(Reversible(), board, nested_strategy(board, n, board.targets)).peak for n in (0, 1)]
    [15, 9]
    """
    moves: list[Move] = []
    on: set[int] = set()
    for target in order:
        moves += _reach(board, target, level, on, most_moves - len(moves))
        on.add(target)
    return tuple(moves)


def nested_strategies(
    board: Board, order: Iterable[int], *, deadline: float
) -> Iterator[tuple[Move, ...]]:
    """The strategies of all levels, until time is up; those of few moves in any case."""
    order = tuple(order)
    for level in range(1, _LEVELS):
        most = _MOST_MOVES if time.monotonic() < deadline else _CHEAP
        try:
            yield nested_strategy(board, level, order, most_moves=most)
        except TooLong:
            return


def _reach(board: Board, v: int, level: int, on: set[int], most: int) -> list[Move]:
    """Moves that add a pebble on v and change nothing else; `on` is what is there."""
    if v in on:
        return []
    if most <= 0:
        raise TooLong
    cone = _cone(board, v, on)
    if level == 0 or len(cone) <= _SMALL:
        return [*map(place, cone), *(remove(u) for u in reversed(cone) if u != v)]
    moves: list[Move] = []
    reached: list[int] = []
    for u in sorted(board.preds[v], key=lambda u: -len(_cone(board, u, on))):
        if u not in on:
            moves += _reach(board, u, level - 1, on, most - 2 * len(moves))
            on.add(u)
            reached.append(u)
    on.difference_update(reached)
    return [*moves, place(v), *map(_undone, reversed(moves))]


def _undone(move: Move) -> Move:
    return Move(Act.REMOVE if move.act is Act.PLACE else Act.PLACE, move.node)


def _cone(board: Board, v: int, on: set[int]) -> list[int]:
    """What must be placed to place v, in a topological order."""
    found, stack = {v}, [v]
    while stack:
        for u in board.preds[stack.pop()]:
            if u not in found and u not in on:
                found.add(u)
                stack.append(u)
    return sorted(found)
