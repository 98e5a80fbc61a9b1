"""Offloading: time for memory, agreement with red-blue strategies, and refusals."""

from __future__ import annotations

import pytest

from pebble.errors import InvalidArgument, InvalidSchedule
from pebble.games import (
    Act,
    Move,
    RedBlue,
    graph_of_edges,
    least_cost,
    make_graph,
    offload_of_strategy,
    place,
    remove,
    simulate_offload,
)
from pebble.graph import Graph, Op, Value
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule


def chain(n: int, size: int = 1000) -> Graph:
    graph = make_graph(f"trainchain:{n}")
    edges = [(u, i) for i, op in enumerate(graph.ops) for u in op.inputs]
    return graph_of_edges(2 * n, edges, sizes=[size] * 2 * n, costs=[100] * 2 * n)


def test_offloading_saves_memory_and_costs_time() -> None:
    graph = chain(4)
    plan = [
        place(0), Move(Act.STORE, 0), place(1), Move(Act.STORE, 1), place(2), place(3), place(4),
        place(5), Move(Act.LOAD, 1), place(6), Move(Act.LOAD, 0), place(7),
    ]  # fmt: skip
    trace = simulate_offload(graph, plan, bandwidth=2e9, store_bandwidth=1e9)
    assert simulate(graph, Schedule.keep_all(graph)).peak == 5000
    assert (trace.peak, trace.slow_peak) == (3000, 2000)
    assert (trace.compute_cost, trace.recomputed_cost) == (800, 0)
    assert (trace.transferred, trace.transfer_cost) == (4000, 2 * 1000 + 2 * 500)
    assert trace.cost == 3800
    assert (trace.slow // 1000).tolist() == [0, 1, 1, 2, 2, 2, 2, 2, 2, 1, 1, 0]


def test_a_red_blue_strategy_is_an_offloading_schedule() -> None:
    graph = make_graph("trainchain:5")
    game = RedBlue(blue_inputs=False, compute=1)
    result = least_cost(graph, game, 3)
    assert result.strategy is not None
    trace = simulate_offload(graph, offload_of_strategy(graph, result.strategy), bandwidth=1e9)
    assert trace.peak <= 3
    assert trace.cost == result.cost


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        ([place(0), place(2)], "reads value '1', but no earlier step has made or loaded it"),
        ([Move(Act.STORE, 0)], "stores '0', but no earlier step has made it"),
        ([place(0), Move(Act.LOAD, 0)], "loads '0', but no earlier step has stored it"),
        ([place(0), remove(0)], "only place, store and load"),
        ([place(9)], "runs op 9, but graph"),
        ([Move(Act.STORE, 9)], "there is no value 9"),
        ([place(0), place(1)], "never runs"),
    ],
)
def test_wrong_offloading_schedules(plan: list[Move], sentence: str) -> None:
    with pytest.raises(InvalidSchedule, match=sentence):
        simulate_offload(make_graph("path:3"), plan)


def test_offloading_keeps_the_rules_of_the_problem() -> None:
    graph = make_graph("path:2")
    with pytest.raises(InvalidSchedule, match="again, which may run once"):
        simulate_offload(Problem(graph, 9, recompute=False), [place(0), place(0), place(1)])
    with pytest.raises(InvalidArgument, match="bandwidth must be positive"):
        simulate_offload(graph, [place(0), place(1)], bandwidth=0)
    extern = Graph([Op("a", 1, (0,), (1,))], [Value("w", 5, external=True), Value("a", 1)])
    with pytest.raises(InvalidSchedule, match="'w' is external"):
        simulate_offload(extern, [place(0), Move(Act.STORE, 0)])
