"""The integer program against exhaustive search over its own class, and over all schedules."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pebble.errors import InvalidArgument, InvalidSchedule
from pebble.graph import Graph, Op, Value
from pebble.problem import Objective, Problem
from pebble.referee import Trace, simulate
from pebble.schedule import FIXED_ORDER, Schedule
from pebble.solver import Answer, Status, solve
from pebble.solvers.integer import cost_ladder
from tests.graphs import keep_peak, rich_graph, skipping_graph
from tests.optima import least_cost


def small_graph(seed: int, n: int) -> Graph:
    """Multi-output ops, workspace, pinned values, ops that may run only once."""
    return rich_graph(seed, n, reads=(0, 2), reach=5, size=(0, 6), cost=(0, 6))


def stage_choices(graph: Graph, t: int) -> Iterator[list[int]]:
    earlier = [i for i in range(t) if graph.ops[i].recomputable]
    for size in range(len(earlier) + 1):
        for again in itertools.combinations(earlier, size):
            yield [*again, t]


def least_fixed_order(graph: Graph, budget: int, most: int) -> int | None:
    """Least cost over the whole class by trying every combination of stages that costs less."""
    best: int | None = None
    n, base = len(graph.ops), graph.total_cost

    def extend(t: int, order: list[int], spare: int) -> None:
        nonlocal best
        if t == n:
            if simulate(graph, order).peak <= budget:
                cost = base + most - spare
                best = cost if best is None else min(best, cost)
            return
        for stage in stage_choices(graph, t):
            again = sum(graph.ops[i].cost for i in stage[:-1])
            if again <= spare and (best is None or base + most - spare + again < best):
                extend(t + 1, [*order, *stage], spare - again)

    extend(0, [], most)
    return best


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9), st.integers(2, 8), st.floats(0, 1))
def test_equals_exhaustive_search_over_its_class(seed: int, n: int, share: float) -> None:
    graph = small_graph(seed, n)
    peak = keep_peak(graph)
    least = Problem(graph, 0).working_set_bound
    budget = least + int(share * (peak - least))
    result = solve(Problem(graph, budget), "ilp", time_limit=20)
    # All that cost no more than what was found: that it is found again, and nothing cheaper.
    most = 2 * graph.total_cost if result.objective is None else result.objective - graph.total_cost
    assume(n <= 6 or (result.objective is not None and most <= 14))
    expected = least_fixed_order(graph, budget, most)
    if expected is None and result.schedule is None:
        assert result.status is Status.INFEASIBLE
        assert result.scope == FIXED_ORDER
        return
    assert result.status is Status.OPTIMAL
    assert result.schedule is not None
    assert FIXED_ORDER.contains(graph, result.schedule)
    assert result.objective == expected
    free = least_cost(Problem(graph, budget))
    assert free is not None
    assert free <= expected


def test_engines_agree_and_only_integers_prove() -> None:
    graph = small_graph(11, 9)
    peak = keep_peak(graph)
    least = Problem(graph, 0).working_set_bound
    problem = Problem(graph, (peak + least) // 2)
    exact = solve(problem, "ilp", time_limit=20)
    floating = solve(problem, "ilp", time_limit=20, engine="highs")
    assert exact.status in (Status.OPTIMAL, Status.INFEASIBLE)
    assert floating.objective == exact.objective
    with pytest.raises(InvalidArgument, match="no engine 'scip'; choose one of cpsat, highs"):
        solve(problem, "ilp", engine="scip")


def test_least_peak() -> None:
    for seed in range(5):
        graph = small_graph(seed, 5)
        problem = Problem(graph, 10**6, Objective.PEAK)
        result = solve(problem, "ilp", time_limit=20)
        budgets = range(problem.working_set_bound, keep_peak(graph) + 1)
        expected = next(b for b in budgets if least_fixed_order(graph, b, 10**3) is not None)
        assert (result.objective, result.lower_bound) == (expected, expected)
        assert result.status is Status.OPTIMAL


def test_a_start_within_the_class_is_used() -> None:
    graph = Graph(
        [Op("a", 5, (), (0,)), Op("b", 5, (0,), (1,)), Op("c", 5, (1,), (2,)), Op("d", 5, (2, 0), (3,))],  # noqa: E501
        [Value(name, 10) for name in "abcd"],
    )  # fmt: skip
    start = Schedule((0, 1, 2, 0, 3))
    for known in (start, [start]):
        result = solve(Problem(graph, 30), "ilp", start=known)
        assert (result.objective, result.status) == (20, Status.OPTIMAL)


def nothing(problem: Problem, **options: object) -> Answer:
    return Answer(None)


@pytest.mark.parametrize("seed", range(12))
def test_a_start_just_above_the_optimum_does_not_pass_for_it(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rung of the ladder of cost limits that promised too much would end the search there."""
    monkeypatch.setattr(cost_ladder, "get_solver", lambda name: (name, nothing))
    monkeypatch.setattr(
        cost_ladder, "crossing_lower_bound", lambda problem, **options: problem.graph.total_cost
    )
    graph = small_graph(seed, 6)
    graph = Graph([replace(op, cost=20 + 7 * op.cost) for op in graph.ops], graph.values)
    peak = keep_peak(graph)
    problem = Problem(graph, (peak + Problem(graph, 0).working_set_bound) // 2)
    costs = {
        order: trace.cost
        for order in orders_of_the_class(graph)
        if (trace := replayed(graph, order)) is not None and trace.peak <= problem.budget
    }
    cheapest = min(costs.values(), default=graph.total_cost)
    expected = least_fixed_order(graph, problem.budget, cheapest - graph.total_cost)
    dearer = [order for order, cost in costs.items() if expected is not None and cost > expected]
    start = [Schedule(order) for order in sorted(dearer, key=costs.__getitem__)[:1]]
    result = solve(problem, "ilp", time_limit=20, start=start)
    assert result.objective == expected or expected is None


def orders_of_the_class(graph: Graph) -> Iterator[tuple[int, ...]]:
    """Orders with at most three executions beyond those of every op once."""
    n = len(graph.ops)
    extra = [(t, i) for t in range(n) for i in range(t) if graph.ops[i].recomputable]
    for count in (1, 2, 3):
        for again in itertools.combinations(extra, count):
            yield tuple(i for t in range(n) for i in (*(i for u, i in again if u == t), t))


def replayed(graph: Graph, order: tuple[int, ...]) -> Trace | None:
    try:
        return simulate(graph, order)
    except InvalidSchedule:
        return None


def test_too_large_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = skipping_graph(3, 20)
    budget = keep_peak(graph) * 85 // 100
    monkeypatch.setattr(cost_ladder, "LARGEST_MODEL", 10)
    result = solve(Problem(graph, budget), "ilp", time_limit=5)
    assert (result.status, result.schedule) == (Status.NOT_FOUND, None)
    assert "program for 20 ops has more than 10 terms" in result.message
