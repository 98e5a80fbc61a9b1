"""Strategies by stopovers are legal."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pebble.games import Board, Reversible, formulas, play
from pebble.games.constructions.stopovers import stopover_strategies
from pebble.games.literature.random_graphs import random_dag


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 14), st.integers(0, 10_000), st.integers(0, 8))
def test_stopovers_are_legal(n: int, seed: int, pebbles: int) -> None:
    board = Board.of(random_dag(n, 0.35, seed=seed))
    found = list(
        stopover_strategies(
            board, board.targets, pebbles, deadline=float("inf"), seed=seed, rounds=100
        )
    )
    assert found
    for moves in found:
        trace = play(Reversible(), board, moves)
        assert trace.cost >= formulas.reversible_moves(board)
