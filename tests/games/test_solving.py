"""Solving: statuses, bounds and scopes, engines by name or callable, limits, fronts."""

from __future__ import annotations

from typing import Any

import networkx as nx
import pytest

from pebble.errors import IllegalMove, InvalidArgument, UnknownSolver
from pebble.games import (
    Black,
    Board,
    Found,
    Game,
    Reversible,
    knill_strategy,
    least_cost,
    least_pebbles,
    make_game,
    make_graph,
    pareto_front,
    place,
    play,
)
from pebble.games.exact.search import search
from pebble.games.formulas import line_moves
from pebble.solver import Status


def test_from_networkx_in_a_few_lines() -> None:
    graph = nx.DiGraph([("a", "c"), ("b", "c"), ("c", "d"), ("b", "d")])
    result = least_pebbles(graph, Black())
    assert (result.pebbles, result.status, result.gap) == (3, Status.OPTIMAL, 0.0)
    assert play(Black(), graph, result.strategy).peak == 3
    assert "optimal, 3 pebbles" in str(result)


def test_statuses_tell_their_scope() -> None:
    graph = make_graph("path:6")
    proved = least_cost(graph, Reversible(), 3)
    assert (proved.status, proved.horizon) == (Status.INFEASIBLE, None)
    assert "no strategy does with 3 pebbles" in proved.message
    within = least_cost(graph, Reversible(), 3, engine="cpsat", horizon=9)
    assert (within.status, within.horizon) == (Status.INFEASIBLE, 9)
    assert "no strategy of at most 9 moves" in within.message
    assert "within 9 moves" in str(within)
    short = least_cost(graph, Reversible(), 6, engine="cpsat", horizon=10)
    assert short.status is Status.INFEASIBLE  # the least is 11
    oneshot = least_pebbles(graph, Black(recompute=False), engine="cpsat")
    assert (oneshot.pebbles, oneshot.status, oneshot.horizon) == (2, Status.OPTIMAL, None)


def test_limits_leave_a_strategy_and_a_bound() -> None:
    graph = make_graph("pyramid:9")
    result = least_cost(graph, Reversible(), 30, time_limit=1.0)
    assert result.status in (Status.FEASIBLE, Status.NOT_FOUND)
    assert result.lower_bound >= 2 * 55 - 1
    board = Board.of(graph)
    stopped = search(Reversible(), board, 30, max_states=2000)
    assert (stopped.strategy, stopped.complete, stopped.infeasible) == (None, False, False)
    assert stopped.bound >= 109


def test_engines_by_name_or_callable() -> None:
    graph = make_graph("path:4")

    def knill(game: Game, board: Board, pebbles: int, **options: Any) -> Found:
        """Somebody else's engine."""
        try:
            strategy = knill_strategy(len(board), pebbles)
        except InvalidArgument:
            return Found(None, infeasible=True, complete=True)
        return Found(strategy, len(strategy), complete=True)

    own = least_cost(graph, Reversible(), 3, engine=knill)
    assert (own.cost, own.engine, own.status) == (9, "knill", Status.OPTIMAL)
    assert least_pebbles(graph, Reversible(), engine=knill).pebbles == 3
    with pytest.raises(UnknownSolver, match="choose auto, search, cpsat, heuristic"):
        least_cost(graph, Reversible(), 3, engine="magic")


def test_an_engine_that_cheats_is_caught() -> None:
    def cheat(game: Game, board: Board, pebbles: int, **options: Any) -> Found:
        return Found((place(3),), 1, complete=True)

    with pytest.raises(IllegalMove):
        least_cost(make_graph("path:4"), Black(), 1, engine=cheat)


def test_fronts_are_strictly_monotone_and_complete() -> None:
    front = pareto_front(make_graph("path:9"), Reversible())
    pairs = [(r.pebbles, r.cost) for r in front]
    assert pairs == [(k, line_moves(9, k)) for k in range(5, 10)]
    assert all(r.status is Status.OPTIMAL for r in front)
    assert pairs[0][0] == least_pebbles(make_graph("path:9"), Reversible()).pebbles
    weighted = pareto_front(make_graph("trainchain:5"), Black(weighted=True))
    assert _monotone([(r.pebbles, r.cost) for r in weighted])


def _monotone(pairs: list[tuple[Any, Any]]) -> bool:
    return all(a < c and b > d for (a, b), (c, d) in zip(pairs, pairs[1:]))  # noqa: RUF007


@pytest.mark.parametrize(
    ("name", "game", "pebbles", "cost"),
    [
        ("pyramid:5", "parallel-black", 6, 21),
        ("tree:2x3", "parallel-black", 4, 15),
        ("path:16", "reversible-parallel", 5, 31),
        ("pyramid:4", "reversible-parallel", 7, 9),
    ],
)
def test_parallel_games_on_larger_boards(name: str, game: str, pebbles: int, cost: int) -> None:
    few = least_pebbles(make_graph(name), make_game(game))
    cheap = least_cost(make_graph(name), make_game(game))
    assert (few.pebbles, few.status) == (pebbles, Status.OPTIMAL)
    assert (cheap.cost, cheap.status) == (cost, Status.OPTIMAL)


@pytest.mark.parametrize("seed", range(3))
def test_one_shot_peaks_of_layered_graphs(seed: int) -> None:
    result = least_pebbles(make_graph(f"layered:60x5x{seed}"), Black(recompute=False))
    assert result.status is Status.OPTIMAL
