"""Trimmed strategies: legal, no worse, and as good as is known."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pebble.games import Board, Reversible, bennett_strategy, formulas, make_graph, play
from pebble.games.constructions.nested import nested_strategy
from pebble.games.constructions.trimming import tightened, trimmed
from pebble.games.literature.random_graphs import random_dag


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 14), st.integers(0, 10_000), st.integers(0, 3), st.integers(0, 4))
def test_trimmed_strategies_are_legal_and_no_worse(
    n: int, seed: int, level: int, spare: int
) -> None:
    board = Board.of(random_dag(n, 0.35, seed=seed))
    moves = nested_strategy(board, level, board.targets)
    before = play(Reversible(), board, moves)
    late = play(Reversible(), board, tightened(board, moves))
    assert (late.peak, late.cost) <= (before.peak, before.cost)
    assert late.cost <= before.cost
    short = play(
        Reversible(),
        board,
        trimmed(board, moves, late.peak + spare, deadline=0.0),
        pebbles=late.peak + spare,
    )
    assert formulas.reversible_moves(board) <= short.cost <= late.cost


def test_trimming_reaches_the_known_trades() -> None:
    """With all the room there is, the move floor; on a path never below the optimum."""
    board = Board.of(make_graph("pyramid:8"))
    moves = nested_strategy(board, 5, board.targets)
    assert len(moves) > 1000
    assert len(trimmed(board, moves, 45, deadline=0.0)) == formulas.reversible_moves(board)
    line = Board.of(make_graph("path:32"))
    for pebbles in range(7, 33):
        moves = bennett_strategy(2, 5)
        cost = len(trimmed(line, moves, pebbles, deadline=0.0))
        assert formulas.line_moves(32, pebbles) <= cost <= len(moves)
