"""The black strategy of an order in which every node is computed once."""

from __future__ import annotations

from collections.abc import Iterable

from pebble.games.board import Board
from pebble.games.moves import Act, Move, place, remove
from pebble.games.rules import Black


def strategy_of_order(game: Black, board: Board, order: Iterable[int]) -> tuple[Move, ...]:
    """The moves of a one-shot order: values go as soon as nothing will read them.

    Examples
    --------
    >>> from pebble.games import make_graph
    >>> print(*strategy_of_order(Black(), Board.of(make_graph("path:2")), [0, 1]), sep=", ")
    place 0, place 1, remove 0, remove 1
    """
    plain = board if game.weighted else board.unweighted()
    uses = [len(readers) for readers in board.succs]
    for t in board.targets if game.hold else ():
        uses[t] += 1
    moves: list[Move] = []
    for v in order:
        for u in board.preds[v]:
            uses[u] -= 1
        dying = [u for u in board.preds[v] if uses[u] == 0]
        if game.slide and dying:
            largest = max(dying, key=plain.sizes.__getitem__)
            dying.remove(largest)
            moves.append(Move(Act.SLIDE, v, largest))
        else:
            moves.append(place(v))
        moves += [remove(u) for u in dying]
        if not uses[v]:
            moves.append(remove(v))
    return tuple(moves)
