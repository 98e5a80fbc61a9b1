"""The solver of chains on deep networks, and where there is no chain."""

from __future__ import annotations

from pebble.graph import Graph, Op, Phase, Value
from pebble.problem import Problem
from pebble.solver import solve
from tests.graphs import keep_peak, masked_net


def test_a_deep_network_needs_about_the_root_of_its_depth() -> None:
    graph = masked_net(36)
    peak = keep_peak(graph)
    fixed = sum(v.size for v in graph.values if v.pinned) + 2 * 36
    results = {
        percent: solve(Problem(graph, fixed + (peak - fixed) * percent // 100), "chain")
        for percent in (100, 60, 30, 20, 12)
    }
    overhead = {
        percent: None if r.trace is None else r.trace.recomputed_cost / graph.total_cost
        for percent, r in results.items()
    }
    assert overhead[100] == 0
    forward = sum(op.cost for op in graph.ops if op.phase == "forward") / graph.total_cost
    assert overhead[60] is not None
    assert 0 < overhead[60] < 0.05, "the cheap half of the memory goes first"
    assert overhead[20] is not None
    assert overhead[20] <= forward, "one more forward at most"
    assert overhead[12] is not None
    assert overhead[12] <= 2 * forward


def test_without_a_forward_half_there_is_still_an_answer() -> None:
    ops = [Op("a", 1, (), (0,), phase=Phase.BACKWARD), Op("b", 1, (0,), (1,), phase=Phase.BACKWARD)]
    graph = Graph(ops, [Value("x", 2), Value("y", 2)])
    assert solve(Problem(graph, 4), "chain").objective == 2
