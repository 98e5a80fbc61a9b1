"""The bound on the peak."""

from __future__ import annotations

from pebble.graph import Graph, Op, Value
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.solvers.bounds.peak import peak_lower_bound


def test_the_bound_on_the_peak_counts_what_no_order_can_drop() -> None:
    ops = [
        Op("draw", 1, (), (0,), recomputable=False),
        Op("wide", 1, (0,), (1,)),
        Op("narrow", 1, (1,), (2,)),
        Op("both", 1, (0, 2), (3,)),
    ]
    graph = Graph(ops, [Value(name, size) for name, size in zip("abcd", (5, 7, 2, 1))])
    assert Problem(graph, 0).working_set_bound == 12
    assert peak_lower_bound(Problem(graph, 0)) == 14  # the draw waits while 'narrow' runs
    assert simulate(graph, (0, 1, 2, 3)).peak == 14
