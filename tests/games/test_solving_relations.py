"""Relations between the games, and what every game takes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pebble.games import (
    Black,
    BlackWhite,
    Board,
    ParallelBlack,
    RedBlue,
    Reversible,
    Spooky,
    formulas,
    least_cost,
    least_pebbles,
    make_graph,
    place,
    play,
    remove,
)
from pebble.games.literature.random_graphs import random_dag


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 7), st.integers(0, 10_000))
def test_relations_between_the_games(n: int, seed: int) -> None:
    graph = random_dag(n, 0.4, seed=seed)

    def least(game: object) -> int:
        return least_pebbles(graph, game).pebbles or 0

    black, slide = least(Black()), least(Black(slide=True))
    assert black - 1 <= slide <= black
    assert black <= least(Black(hold=True))
    assert black <= least(Black(recompute=False))
    visit, hold = least(Reversible(hold=False)), least(Reversible())
    targets = len(Board.of(graph).targets)
    assert black <= visit <= hold <= visit + targets
    assert least(BlackWhite()) <= black
    assert least(Spooky(ghosts=0)) == hold
    assert least(Spooky(ghosts=2)) <= least(Spooky(ghosts=1)) <= hold
    assert least_cost(graph, ParallelBlack()).cost >= n
    assert least_cost(graph, Reversible()).cost == formulas.reversible_moves(graph)
    room = max(1 + max(map(len, Board.of(graph).preds)), 2)
    once = [least_cost(graph, RedBlue(recompute=False), room + i).cost for i in range(3)]
    again = [least_cost(graph, RedBlue(), room + i).cost for i in range(3)]
    assert again == sorted(again, reverse=True)
    assert all(a <= b for a, b in zip(again, once))


def test_free_inputs_and_targets() -> None:
    graph = make_graph("pyramid:2")
    assert least_pebbles(graph, Black(free_inputs=True)).pebbles == 3
    assert least_pebbles(graph, Black(), targets=[3]).pebbles == 3
    assert play(Black(free_inputs=True), graph, [place(3), place(4), place(5), remove(3)]).peak == 3
