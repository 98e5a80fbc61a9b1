"""Retention intervals: against exhaustive search in free order and the integer program in fixed."""

from __future__ import annotations

import heapq
import itertools
import random

import pytest

from pebble.errors import InvalidArgument
from pebble.graph import Graph, Op, Value
from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Status, solve


def random_graph(seed: int, n: int) -> Graph:
    rng = random.Random(seed)
    values = [Value("x", 9, external=True)]
    ops = []
    for i in range(n):
        recent = range(max(1, len(values) - 5), len(values))
        reads = {v for v in recent if rng.random() < 0.4}
        outputs = range(len(values), len(values) + rng.choice((1, 1, 1, 2)))
        for v in outputs:
            values.append(Value(str(v), rng.randint(0, 6), pinned=rng.random() < 0.1))
        ops.append(
            Op(
                str(i), rng.randint(0, 6), tuple(sorted(reads)), tuple(outputs),
                workspace=rng.choice((0, 0, 2)), recomputable=rng.random() < 0.85,
            )
        )  # fmt: skip
    return Graph(ops, values)


def least_cost(graph: Graph, budget: int, copies: int) -> int | None:
    """Dijkstra over (values held, executions of each op): any order, at most so many of each."""
    n = len(graph.ops)
    start = (frozenset[int](), (0,) * n)
    queue, best, ticket = [(0, 0, start)], {start: 0}, itertools.count(1)

    def push(cost: int, state: tuple[frozenset[int], tuple[int, ...]]) -> None:
        if cost < best.get(state, 10**9):
            best[state] = cost
            heapq.heappush(queue, (cost, next(ticket), state))

    while queue:
        cost, _, (held, runs) = heapq.heappop(queue)
        if best[held, runs] < cost:
            continue
        if all(runs):
            return cost
        for i, op in enumerate(graph.ops):
            reads = {v for v in op.inputs if not graph.values[v].external}
            if not reads <= held or runs[i] >= (copies if op.recomputable else 1):
                continue
            doubles = [v for v in op.outputs if graph.values[v].pinned and runs[i]]
            after = held | set(op.outputs)
            live = sum(graph.values[v].size for v in (*after, *doubles)) + op.workspace
            if live <= budget:
                push(cost + op.cost, (after, (*runs[:i], runs[i] + 1, *runs[i + 1 :])))
        for v in held:
            if not graph.values[v].pinned:
                push(cost, (held - {v}, runs))
    return None


@pytest.mark.parametrize("seed", range(16))
def test_free_order_equals_exhaustive_search(seed: int) -> None:
    graph = random_graph(seed, 5)
    least, peak = Problem(graph, 0).working_set_bound, simulate(graph, range(5)).peak
    problem = Problem(graph, random.Random(seed).randint(least, peak))
    result = solve(problem, "cpsat", time_limit=20)
    expected = least_cost(graph, problem.budget, 2)
    assert result.objective == expected
    if expected is None:
        assert result.status is Status.INFEASIBLE
        assert str(result.scope) == "free order, at most 2 executions per op"
    else:
        assert result.status is Status.OPTIMAL


@pytest.mark.parametrize("seed", range(8))
def test_fixed_order_agrees_with_the_integer_program(seed: int) -> None:
    graph = random_graph(seed, 9)
    least, peak = Problem(graph, 0).working_set_bound, simulate(graph, range(9)).peak
    problem = Problem(graph, (least + 2 * peak) // 3)
    narrow = solve(problem, "cpsat", time_limit=20, order="fixed", copies=3)
    wide = solve(problem, "ilp", time_limit=20)
    if wide.schedule is not None and wide.schedule.executions(9).max() <= 3:
        assert narrow.objective == wide.objective
        assert narrow.status is Status.OPTIMAL
    elif wide.schedule is None:
        assert narrow.status is Status.INFEASIBLE


def test_least_peak_and_starts() -> None:
    graph = random_graph(3, 7)
    problem = Problem(graph, 10**6, Objective.PEAK)
    result = solve(problem, "cpsat", time_limit=20, start=Schedule.keep_all(graph))
    budgets = range(problem.working_set_bound, simulate(graph, range(7)).peak + 1)
    expected = next(b for b in budgets if least_cost(graph, b, 2) is not None)
    assert (result.objective, result.lower_bound) == (expected, expected)


def test_options_are_checked_and_size_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = random_graph(1, 6)
    tight = Problem(graph, Problem(graph, 0).working_set_bound)
    with pytest.raises(InvalidArgument, match="no order 'any'"):
        solve(tight, "cpsat", order="any")
    with pytest.raises(InvalidArgument, match="at least once"):
        solve(tight, "cpsat", copies=0)
    from pebble.solvers import cpsat

    monkeypatch.setattr(cpsat, "LARGEST_MODEL", 1)
    wide = Problem(random_graph(8, 12), Problem(random_graph(8, 12), 0).working_set_bound)
    result = solve(wide, "cpsat")
    assert result.schedule is None or result.status is Status.OPTIMAL
