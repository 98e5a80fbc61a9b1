"""The rules of the training game."""

from __future__ import annotations

import pytest

from pebble.errors import IllegalMove
from pebble.games import place, play, remove, training_board, training_game
from pebble.graph import Graph, Op, Value


def test_rules_of_the_training_game() -> None:
    graph = Graph(
        [
            Op("a", 1, (), (0, 1), workspace=7),
            Op("b", 1, (0,), (2,), recomputable=False),
            Op("c", 1, (1,), (3,)),
        ],
        [Value("a0", 1), Value("a1", 2), Value("b", 4, pinned=True), Value("c", 8)],
    )
    game, board = training_game(graph), training_board(graph)
    assert board.names == ("a0", "a1", "b", "c")
    a, b, c = (place(0), place(1)), place(2), place(3)
    assert play(game, board, [*a, b, c]).peak == 15
    with pytest.raises(IllegalMove, match="'a1' is made by the same op"):
        play(game, board, [place(0), b])
    with pytest.raises(IllegalMove, match="together with 'a0'"):
        play(game, board, [place(1)])
    with pytest.raises(IllegalMove, match="stays in memory to the end"):
        play(game, board, [*a, b, remove(2)])
    with pytest.raises(IllegalMove, match="run only once"):
        play(game, board, [*a, b, b])
    with pytest.raises(IllegalMove, match="'c' was never computed"):
        play(game, board, [*a, b])
