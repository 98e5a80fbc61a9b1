"""Cone after cone: the move floor, with the pebbles that the order of the targets takes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pebble.games import Board, Reversible, formulas, least_cost, least_pebbles, play
from pebble.games.constructions.cones import cone_strategy, order_targets
from pebble.games.literature.random_graphs import random_dag
from pebble.solver import Status

MAPPED = [(0, 3), (1, 2), (2, 3), (4, 6), (5, 6)]
"""The same circuit mapped to seven majority gates, outputs 3 and 6."""


def test_c17_mapped_takes_4_pebbles_and_12_moves() -> None:
    from pebble.games import graph_of_edges

    graph = graph_of_edges(7, MAPPED)
    fewest = least_pebbles(graph, Reversible())
    assert (fewest.pebbles, fewest.status) == (4, Status.OPTIMAL)
    result = least_cost(graph, Reversible(), 4)
    assert (result.cost, result.status) == (12, Status.OPTIMAL)
    order, pebbles, proved = order_targets(Board.of(graph))
    assert (len(order), pebbles, proved) == (2, 4, True)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10_000))
def test_cones_reach_the_move_floor(n: int, seed: int) -> None:
    board = Board.of(random_dag(n, 0.4, seed=seed))
    _, pebbles, _ = order_targets(board)
    trace = play(Reversible(), board, cone_strategy(board), pebbles=pebbles)
    assert trace.cost == formulas.reversible_moves(board)
    assert trace.peak == pebbles
