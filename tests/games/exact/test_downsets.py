"""Searches over downsets: one-shot peaks, and what the least spill proves about transfers."""

from __future__ import annotations

import networkx as nx

from pebble.games import Board, RedBlue, least_cost, least_pebbles, make_game, make_graph, play
from pebble.games.bounds.floors import cost_lower_bound
from pebble.games.exact.downsets import least_spill
from pebble.solver import Status
from tests.games.boards import joined_board


def test_one_shot_peak_of_a_matrix_product() -> None:
    result = least_pebbles(make_graph("matmul:2x3x2"), make_game("black/oneshot"))
    assert (result.pebbles, result.status) == (8, Status.OPTIMAL)
    assert play(result.game, result.board, result.strategy, pebbles=8).peak == 8


def test_spill_never_exceeds_the_optimum() -> None:
    tight = 0
    for seed in range(40):
        game = RedBlue(recompute=False, load=1 + seed % 2, store=1 + seed % 3)
        board = joined_board(8, 0.5, seed=seed)
        red = 1 + max(map(len, board.preds))
        bound = cost_lower_bound(game, board) + least_spill(game, board, red).bound
        cost = least_cost(board, game, red).cost
        assert cost is not None
        assert bound <= cost
        tight += bound == cost > cost_lower_bound(game, board)
    assert tight >= 3


def test_spill_is_the_black_peak_with_loads_for_inputs() -> None:
    """Where only inputs are worth keeping away, it is the one-shot peak less the room."""
    graph = nx.DiGraph((("a", i), "s") for i in range(6))
    board = Board.of(graph)
    assert [least_spill(RedBlue(), board, red).bound for red in (7, 8)] == [0, 0]
    product = Board.of(make_graph("matmul:2x2x2"))
    peak = least_pebbles(product, make_game("black/oneshot")).pebbles
    assert peak == 7
    found = least_spill(RedBlue(), product, 6)
    assert (found.bound, found.complete) == (1, True)
