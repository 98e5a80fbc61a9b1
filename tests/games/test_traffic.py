"""Bounds from cuts never exceed the transfers of the best strategy."""

from __future__ import annotations

from pebble.games import Board, RedBlue, least_cost, make_graph
from tests.games.boards import joined_board


def test_cut_bound_never_exceeds_the_optimum() -> None:
    from pebble.games.bounds.floors import cost_lower_bound
    from pebble.games.traffic import cut_applies, cut_bound

    graph = Board.of(make_graph("matmul:2x2x2"))
    assert cut_applies(RedBlue(), graph)
    assert not cut_applies(RedBlue(), Board.of(make_graph("pyramid:3")))
    for red in (3, 4, 5):
        bound = cost_lower_bound(RedBlue(), graph) + cut_bound(RedBlue(), graph, red)
        assert bound <= least_cost(graph, RedBlue(), red).cost
    assert cut_bound(RedBlue(), graph, 3) > 0
    game = RedBlue(recompute=False)
    for seed in range(20):
        board = joined_board(8, 0.5, seed=seed)
        red = 1 + max(map(len, board.preds))
        extra = cut_bound(game, board, red)
        assert cost_lower_bound(game, board) + extra <= least_cost(board, game, red).cost
