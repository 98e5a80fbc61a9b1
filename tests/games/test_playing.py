"""What a play counts, and the limit of pebbles."""

from __future__ import annotations

import networkx as nx
import pytest

from pebble.errors import IllegalMove
from pebble.games import (
    Act,
    Black,
    Board,
    Move,
    ParallelBlack,
    RedBlue,
    Reversible,
    Spooky,
    Step,
    make_graph,
    place,
    play,
    remove,
)

LINE = Board.of(make_graph("path:3"))


FORK = Board.of(make_graph("tree:2x1"))  # 0 and 1 are read by 2


def move(act: str, node: int, source: int = -1) -> Move:
    return Move(Act(act), node, source)


def test_limit_of_pebbles_is_a_rule() -> None:
    with pytest.raises(IllegalMove, match="Step 1, place 1: 2 pebbles would be .* 1 is the limit"):
        play(Black(), LINE, [place(0), place(1), place(2)], pebbles=1)
    with pytest.raises(IllegalMove, match="1 is the limit"):
        play(ParallelBlack(), FORK, [Step((0, 1)), Step((2,))], pebbles=1)


def test_what_a_play_counts() -> None:
    trace = play(Black(), LINE, [place(0), place(1), remove(0), place(2)])
    assert trace.pebbles.tolist() == [1, 2, 1, 2]
    assert (trace.peak, trace.peak_step, trace.time, trace.placements, trace.cost) == (
        2,
        1,
        4,
        3,
        3,
    )
    moves = [move("load", 0), place(1), remove(0), place(2), move("store", 2)]
    trace = play(RedBlue(compute=10), LINE, moves)
    assert (trace.io, trace.cost, trace.placements) == (2, 22, 2)
    steps = [Step((0, 1)), Step((2,), (0, 1))]
    assert play(ParallelBlack(), FORK, steps).cost == 3
    ghostly = [place(0), place(1), move("ghost", 0), place(2), move("restore", 0), remove(1)]
    assert play(Spooky(), LINE, [*ghostly, remove(0)]).ghosts == 1


def test_weights_and_workspace_count() -> None:
    graph = nx.DiGraph([("a", "b")])
    graph.nodes["a"].update(size=5, cost=7)
    graph.nodes["b"].update(size=3, cost=2, workspace=10)
    trace = play(Black(weighted=True), graph, [place(0), place(1), remove(0)])
    assert (trace.pebbles.tolist(), trace.cost) == ([5, 18, 3], 9)
    assert play(Black(), graph, [place(0), place(1)]).peak == 2
    loads = [move("load", 0), place(1), move("store", 1)]
    assert play(RedBlue(weighted=True), graph, loads).cost == 8


def test_free_inputs_carry_no_weight() -> None:
    assert play(Black(free_inputs=True), LINE, [place(1), place(2)]).peak == 2
    assert play(Reversible(free_inputs=True), LINE, [place(1), place(2), remove(1)]).cost == 3
