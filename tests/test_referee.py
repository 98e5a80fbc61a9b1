"""The referee against a replay written from the rules alone, and its sentences."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pebble.errors import InvalidSchedule
from pebble.graph import Graph, Op, Phase, Value
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import FIXED_ORDER, FREE_ORDER, Schedule, Scope
from tests.graphs import rich_graph


def random_order(rng: random.Random, graph: Graph) -> list[int]:
    """The reference order with repeatable ops put in again where their inputs exist."""
    order = list(range(len(graph.ops)))
    for _ in range(rng.randint(0, 6)):
        op = rng.randrange(len(graph.ops))
        if graph.ops[op].recomputable:
            order.insert(rng.randint(order.index(op) + 1, len(order)), op)
    return order


def replay(graph: Graph, order: list[int]) -> tuple[list[int], int]:
    """Live bytes per step and cost, by walking the schedule with dictionaries."""
    copies: list[dict] = []  # {value, start, last}
    current: dict[int, dict] = {}
    for step, i in enumerate(order):
        op = graph.ops[i]
        for v in op.inputs:
            if not graph.values[v].external:
                current[v]["last"] = step
        for v in op.outputs:
            copy = {"value": v, "start": step, "last": step}
            copies.append(copy)
            if graph.values[v].pinned:
                if v not in current:
                    current[v] = copy
                    copy["last"] = 10**9
            else:
                current[v] = copy
        for v in op.outputs:
            if graph.values[v].pinned:
                current[v]["last"] = 10**9
    for copy in copies:
        if graph.values[copy["value"]].pinned and copy is current[copy["value"]]:
            copy["last"] = len(order) - 1
    live = [
        graph.ops[i].workspace
        + sum(graph.values[c["value"]].size for c in copies if c["start"] <= step <= c["last"])
        for step, i in enumerate(order)
    ]
    return live, sum(graph.ops[i].cost for i in order)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 12))
def test_the_referee_agrees_with_a_walk_by_hand(seed: int, n_ops: int) -> None:
    rng = random.Random(seed)
    graph = rich_graph(seed, n_ops, makes=(1, 2, 3), workspace=range(5))
    order = random_order(rng, graph)
    live, cost = replay(graph, order)
    trace = simulate(graph, order)
    assert trace.live.tolist() == live
    assert trace.peak == max(live)
    assert live[trace.peak_step] == trace.peak
    assert trace.cost == cost
    assert trace.recomputed_cost == cost - graph.total_cost
    assert Problem(graph, 0).working_set_bound <= trace.peak


def layer_norm() -> Graph:
    return Graph(
        [
            Op("norm", 1, (0,), (1, 2)),
            Op("loss", 1, (1,), (3,)),
            Op("boundary", 0, (3,), (4,), recomputable=False),
            Op("grad", 1, (2, 4), (5,), workspace=8, phase=Phase.BACKWARD, recomputable=False),
        ],
        [
            Value("x", 1000, external=True),
            Value("out", 100),
            Value("mean", 10),
            Value("loss", 4, pinned=True),
            Value("tangent", 4, pinned=True),
            Value("dx", 100, pinned=True),
        ],
        boundary=2,
    )


def test_outputs_of_one_op_are_freed_apart() -> None:
    trace = simulate(layer_norm(), [0, 1, 2, 3])
    assert trace.live.tolist() == [110, 114, 18, 10 + 4 + 4 + 100 + 8]
    assert trace.forward_steps == 3
    assert [layer_norm().values[v].name for v in trace.saved] == ["mean", "loss", "tangent"]


def test_recomputing_frees_what_is_not_read_in_between() -> None:
    trace = simulate(layer_norm(), [0, 1, 2, 0, 3])
    assert trace.live.tolist() == [110, 104, 8, 8 + 110, 126]
    assert trace.recomputed_cost == 1


def test_a_pinned_value_computed_again_is_a_duplicate_that_dies_at_once() -> None:
    graph = Graph([Op("a", 1, (), (0,)), Op("b", 1, (0,), (1,))], [Value("p", 4, pinned=True), Value("q", 1)])  # fmt: skip  # noqa: E501
    assert simulate(graph, [0, 0, 1]).live.tolist() == [4, 8, 5]


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ([0, 1, 2], "Op 'grad' never runs"),
        ([0, 1, 2, 3, 7], "Step 4 runs op 7, but graph 'graph' has ops 0 to 3"),
        ([1, 0, 2, 3], "Step 0 runs op 'loss', which reads value 'out'"),
        ([0, 1, 2, 3, 3], "Step 4 runs op 'grad' again, which may run only once"),
        (["x"], "sequence of op indices"),
    ],
)
def test_an_illegal_schedule_is_refused_with_step_op_and_value(order: list, text: str) -> None:
    with pytest.raises(InvalidSchedule) as error:
        simulate(layer_norm(), order)
    assert text in str(error.value)


def test_a_problem_without_recomputation_refuses_it() -> None:
    with pytest.raises(InvalidSchedule, match="may run only once"):
        simulate(Problem(layer_norm(), 10**6, recompute=False), [0, 1, 2, 0, 3])


def test_matrices_and_scope() -> None:
    graph = layer_norm()
    schedule = Schedule((0, 1, 2, 0, 3))
    assert schedule.stages().tolist() == [0, 1, 2, 3, 3]
    assert schedule.r_matrix(4).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 1]]
    kept = schedule.s_matrix(graph)
    assert kept[:, 1].tolist() == [False, True, False, False]  # out: into the loss only
    assert kept[:, 3].tolist() == [False, False, True, True]  # loss: pinned
    assert FIXED_ORDER.contains(graph, schedule)
    assert not FIXED_ORDER.contains(graph, Schedule((0, 1, 2, 0, 0, 3)))
    assert not FIXED_ORDER.contains(graph, Schedule((1, 0, 2, 3)))
    assert FREE_ORDER.contains(graph, Schedule((1, 0, 2, 3)))
    assert not Scope(max_executions=1).contains(graph, schedule)
    assert str(Scope(True, 2)) == "fixed order, at most 2 executions per op"


def test_an_empty_graph_has_an_empty_schedule() -> None:
    trace = simulate(Graph([], []), [])
    assert (trace.peak, trace.cost, trace.saved) == (0, 0, ())
