"""Where the forward half ends, and where it is cut into segments."""

from __future__ import annotations

from pebble.graph import Graph, Op, Value
from pebble.solvers.edits.borders import choose_borders
from pebble.solvers.edits.halves import crossing_bytes, split_of
from tests.graphs import residual_net


def test_borders_are_the_articulation_points_of_a_chain() -> None:
    graph = residual_net(10, 3)
    crossing = crossing_bytes(graph, split_of(graph))
    borders = choose_borders(graph, crossing, 10)
    assert len(borders) >= 6
    assert all(graph.ops[p].name.startswith(("add", "in", "loss")) for p in borders)


def test_halves_of_a_graph_without_phases_are_guessed() -> None:
    plain = [Op(str(i), 1, (i - 1,) if i else (), (i,)) for i in range(4)]
    back = [Op(str(4 + i), 1, (3 + i, 3 - i), (4 + i,)) for i in range(4)]
    graph = Graph([*plain, *back], [Value(str(i), 4) for i in range(8)])
    assert split_of(graph) == 3
