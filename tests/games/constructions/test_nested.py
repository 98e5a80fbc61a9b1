"""Nested cones: legal, and fewer pebbles for more moves."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pebble.games import Board, Reversible, formulas, make_graph, play
from pebble.games.constructions.nested import TooLong, nested_strategy
from pebble.games.literature.random_graphs import random_dag


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10_000), st.integers(0, 4))
def test_nested_cones_are_legal(n: int, seed: int, level: int) -> None:
    board = Board.of(random_dag(n, 0.4, seed=seed))
    strategy = nested_strategy(board, level, board.targets)
    trace = play(Reversible(), board, strategy)
    assert trace.cost >= formulas.reversible_moves(board)


def test_nested_cones_trade_moves_for_pebbles() -> None:
    board = Board.of(make_graph("pyramid:6"))
    trades = [
        (trace.peak, trace.cost)
        for level in range(7)
        for trace in [play(Reversible(), board, nested_strategy(board, level, board.targets))]
    ]
    assert [peak for peak, _ in trades] == sorted((p for p, _ in trades), reverse=True)
    assert trades[0] == (28, 55)
    assert trades[-1][0] == 13
    with pytest.raises(TooLong):
        nested_strategy(board, 6, board.targets, most_moves=1000)
