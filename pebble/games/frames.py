"""A strategy as text, one frame for each move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pebble.games.board import Board
from pebble.games.position import BLACK, EMPTY, FREE, GHOST, WHITE, Game, Position, SequentialGame
from pebble.games.rules import RedBlue
from pebble.games.rules.parallel import take_step

SIGNS = {EMPTY: ".", BLACK: "#", WHITE: "o", GHOST: "~", FREE: "+"}
LEGEND = {
    "black-white": "# black  o white",
    "reversible-inplace": "# pebble  + input",
    "spooky": "# pebble  ~ ghost",
    "red-blue": "r fast memory  b slow memory  # both",
}


def positions(game: Game, graph: Any, strategy: Sequence[Any]) -> Iterator[Position]:
    """The position before the first move and after each; it is one object that changes.

    The strategy is taken to be legal: `pebble.games.play` checks that.
    """
    board = Board.of(graph)
    position = game.start(board)
    yield position
    act = game.moves(position) if isinstance(game, SequentialGame) else None
    for move in strategy:
        if act is None:
            take_step(game, position, move)
        else:
            act[move.act](move)
        yield position
        position.extra = 0


def draw(game: Game, position: Position) -> str:
    """One character for each node, in the order of the board."""
    if isinstance(game, RedBlue):
        return "".join(
            "#" if on and blue else "r" if on else "b" if blue else "."
            for on, blue in zip(position.on, position.blue)
        )
    return "".join(SIGNS[what] for what in position.on)


def frames(game: Game, graph: Any, strategy: Sequence[Any]) -> Iterator[str]:
    """Lines of text: number of the move, the nodes, weight on the board, the move.

    Examples
    --------
    >>> from pebble.games import Black, make_graph, place, remove
    >>> line = make_graph("path:3")
    >>> for text in frames(Black(), line, (place(0), place(1), remove(0))):
    ...     print(text)
       0  ...    0
       1  #..    1  place 0
       2  ##.    2  place 1
       3  .#.    1  remove 0
    """
    board = Board.of(graph)
    moves = iter(strategy)
    for number, position in enumerate(positions(game, board, strategy)):
        text = f"{number:4}  {draw(game, position)}  {position.used + position.extra:3}"
        yield text if number == 0 else f"{text}  {next(moves).text(board.names)}"
