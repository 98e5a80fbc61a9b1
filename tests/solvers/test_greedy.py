"""The heuristic family of `greedy`: what it recomputes first, and how much work it is."""

from __future__ import annotations

from pebble.problem import Problem
from pebble.solver import solve
from pebble.solvers import greedy
from tests.graphs import keep_peak, residual_net


def test_cheap_large_values_are_recomputed_first() -> None:
    graph = residual_net(12, 1)
    peak = keep_peak(graph)
    overhead = []
    for percent in (90, 75, 60, 45):
        result = solve(Problem(graph, peak * percent // 100), "greedy")
        assert result.trace is not None
        overhead.append(result.trace.recomputed_cost / graph.total_cost)
    assert overhead == sorted(overhead)
    assert overhead[0] < 0.01
    assert overhead[-1] < 0.25


def test_five_thousand_ops_are_few_replays() -> None:
    graph = residual_net(620, 5)
    assert len(graph.ops) > 4900
    steps = [
        len(schedule.order) for schedule in greedy.family(Problem(graph, keep_peak(graph) // 2))
    ]
    assert len(steps) >= 20
    assert sum(steps) < 3 * greedy.WORK, "about a second on an idle core"
