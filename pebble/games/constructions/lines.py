"""Strategies for the reversible game on a path: Knill's optimal one, and Bennett's."""

from __future__ import annotations

from pebble.errors import InvalidArgument
from pebble.games.board import Board
from pebble.games.literature.reversible_values import knill_split, line_moves, line_pebbles
from pebble.games.moves import Act, Move, place, remove


def is_line(board: Board) -> bool:
    """Whether the board is a path with its end as the only target.

    Examples
    --------
    >>> from pebble.games import make_graph
    >>> is_line(Board.of(make_graph("path:4"))), is_line(Board.of(make_graph("pyramid:1")))
    (True, False)
    """
    path = all(reads == ((v - 1,) if v else ()) for v, reads in enumerate(board.preds))
    return path and board.targets == (len(board) - 1,)


def knill_strategy(n: int, pebbles: int) -> tuple[Move, ...]:
    """A strategy of fewest moves on the path of n nodes that ends with a pebble on the last only.

    Pebble node m, go on from there with one pebble less, and take the pebble on m back: Knill
    (1995), "An analysis of Bennett's pebble game".

    Raises
    ------
    InvalidArgument
        If the pebbles are too few.

    Examples
    --------
    >>> len(knill_strategy(8, 4))
    25
    """
    if line_moves(n, pebbles) is None:
        raise InvalidArgument(
            f"A path of {n} nodes takes at least {line_pebbles(n)} pebbles, not {pebbles}."
        )
    moves: list[Move] = []
    stack = [(0, n, pebbles, False)]
    while stack:
        start, length, left, back = stack.pop()
        if length == 1:
            moves.append(remove(start) if back else place(start))
            continue
        m = knill_split(length, left)[1]
        parts = [
            (start, m, left, False),
            (start + m, length - m, left - 1, False),
            (start, m, left - 1, True),
        ]
        if back:  # the same moves, backwards
            parts = [(s, size, k, not undo) for s, size, k, undo in reversed(parts)]
        stack += reversed(parts)
    return tuple(moves)


def bennett_strategy(base: int, levels: int) -> tuple[Move, ...]:
    """Bennett's schedule (1989) on a path of base**levels nodes.

    Each level does `base` parts of the level below in turn, then undoes all but the last.

    Examples
    --------
    >>> len(bennett_strategy(2, 3))
    27
    """
    if base < 1 or levels < 0:
        raise InvalidArgument("Bennett's schedule takes a base of 1 or more and levels >= 0.")
    moves: list[Move] = []
    stack = [(0, levels, False)]
    while stack:
        start, level, back = stack.pop()
        if level == 0:
            moves.append(Move(Act.REMOVE if back else Act.PLACE, start))
            continue
        size = base ** (level - 1)
        parts = [(start + i * size, level - 1, False) for i in range(base)]
        parts += [(start + i * size, level - 1, True) for i in reversed(range(base - 1))]
        if back:
            parts = [(s, below, not undo) for s, below, undo in reversed(parts)]
        stack += reversed(parts)
    return tuple(moves)
