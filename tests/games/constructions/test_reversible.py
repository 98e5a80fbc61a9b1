"""The best of all reversible constructions, on a board beyond exact search."""

from __future__ import annotations

import pytest

from pebble.games import Board, Reversible, formulas, least_cost, least_pebbles, play
from pebble.games.constructions.nested import nested_strategy
from pebble.games.literature.random_graphs import random_layered


@pytest.mark.slow
def test_few_pebbles_on_a_board_beyond_exact_search() -> None:
    """Between the two ends: fewer moves than nested cones take, within the pebbles."""
    board = Board.of(random_layered(66, 5, seed=0))
    nested = play(Reversible(), board, nested_strategy(board, 3, board.targets))
    result = least_cost(board, Reversible(), nested.peak, engine="heuristic", time_limit=120)
    assert result.pebbles is not None and result.pebbles <= nested.peak < len(board)
    assert formulas.reversible_moves(board) <= (result.cost or 0) < nested.cost // 10
    fewest = least_pebbles(board, Reversible(), engine="heuristic", time_limit=120)
    assert fewest.lower_bound <= (fewest.pebbles or 0) <= len(board) // 2 < nested.peak
