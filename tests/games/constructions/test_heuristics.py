"""Constructions: near the optimum, and on boards beyond exact search."""

from __future__ import annotations

import pytest

from pebble.errors import InvalidArgument
from pebble.games import (
    Black,
    Board,
    ParallelBlack,
    RedBlue,
    least_cost,
    least_pebbles,
    make_game,
    make_graph,
    play,
)
from pebble.games.constructions.orders import red_blue_strategy, search_order
from pebble.games.exact.search import search
from pebble.solver import Status


def test_heuristics_against_the_optimum() -> None:
    for seed in range(4):
        board = Board.of(make_graph(f"layered:30x5x{seed}"))
        once = Black(recompute=False)
        best = least_pebbles(board, once)
        assert best.status is Status.OPTIMAL
        _, peak = search_order(board, once, deadline=float("inf"), enough=best.pebbles)
        assert best.pebbles <= peak <= best.pebbles + 1
    board = Board.of(make_graph("matmul:2x2x2"))
    strategy = red_blue_strategy(RedBlue(), board, 4, deadline=0.0)
    assert strategy is not None
    found = play(RedBlue(), board, strategy, pebbles=4).cost
    optimum = least_cost(board, RedBlue(), 4).cost
    assert optimum is not None
    assert optimum <= found <= optimum + 3


def test_large_boards_fall_back_on_constructions() -> None:
    line = make_graph("path:200")
    parallel = ("parallel-black", "reversible-parallel")
    for name in ("reversible", "black", "black-white", "spooky/0", *parallel):
        result = least_pebbles(line, make_game(name), time_limit=4)
        assert result.engine == "heuristic"
        assert result.strategy is not None
        assert result.lower_bound <= (result.pebbles or 0)
    assert least_pebbles(line, Black(), time_limit=4).status is Status.OPTIMAL
    with pytest.raises(InvalidArgument, match="at most 64 nodes"):
        search(Black(), Board.of(line), 3)
    with pytest.raises(InvalidArgument, match="at most 64 nodes"):
        search(ParallelBlack(), Board.of(line), 3)
