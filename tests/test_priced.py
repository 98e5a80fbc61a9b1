"""Bisection along the price of memory, and the bound for any order against exhaustive search."""

from __future__ import annotations

import heapq
import itertools
import random

import pytest

from pebble.graph import Graph, Op, Phase, Value
from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import FREE_ORDER, Schedule
from pebble.solver import Status, solve
from pebble.solvers.bounds.moment_cuts import cost_lower_bound


def small_graph(seed: int) -> Graph:
    """Up to six ops, some that run once, some with two results, a pinned one, workspace."""
    rng = random.Random(seed)
    values: list[Value] = []
    ops = []
    n = rng.randint(3, 6)
    for i in range(n):
        reads = {v for v in range(len(values)) if rng.random() < 0.45}
        if values and not reads:
            reads = {rng.randrange(len(values))}
        outputs = []
        for k in range(rng.choice((1, 1, 2))):
            outputs.append(len(values))
            pinned = rng.random() < 0.12
            values.append(Value(f"v{i}.{k}", rng.randint(0, 4), pinned=pinned))
        phase = Phase.FORWARD if i < n // 2 else Phase.BACKWARD
        once = rng.random() < 0.2
        ops.append(
            Op(f"op{i}", rng.randint(0, 5), tuple(reads), tuple(outputs), rng.choice((0, 0, 2)),
               phase, not once)
        )  # fmt: skip
    return Graph(ops, values)


def least_cost(problem: Problem) -> int | None:
    """Dijkstra over what is in memory and what has run: every order, every repetition."""
    graph, may_repeat = problem.graph, problem.may_repeat.tolist()
    n = len(graph.ops)
    start: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())
    best, queue, ticket = {start: 0}, [(0, 0, start)], itertools.count(1)
    while queue:
        cost, _, state = heapq.heappop(queue)
        if cost > best[state]:
            continue
        held, done = state
        if len(done) == n:
            return cost
        moves = [(0, (held - {v}, done)) for v in held if not graph.values[v].pinned]
        for i, op in enumerate(graph.ops):
            if not held.issuperset(op.inputs) or (i in done and not may_repeat[i]):
                continue
            after = held | set(op.outputs)
            live = sum(graph.values[v].size for v in after) + op.workspace
            pinned_doubles = sum(
                graph.values[v].size for v in op.outputs if v in held and graph.values[v].pinned
            )
            if live + pinned_doubles <= problem.budget:
                moves.append((op.cost, (after, done | {i})))
        for extra, new in moves:
            if cost + extra < best.get(new, 2**60):
                best[new] = cost + extra
                heapq.heappush(queue, (cost + extra, next(ticket), new))
    return None


@pytest.mark.parametrize("seed", range(60))
def test_the_bound_is_never_above_the_optimum_of_any_order(seed: int) -> None:
    graph = small_graph(seed)
    peak = simulate(graph, Schedule.keep_all(graph)).peak
    for budget in range(Problem(graph, 0).working_set_bound, peak + 1):
        problem = Problem(graph, budget)
        bound, optimum = cost_lower_bound(problem), least_cost(problem)
        if bound is None:
            assert optimum is None
        elif optimum is not None:
            assert graph.total_cost <= bound <= optimum


def layered(layers: int, *, width: int = 16) -> Graph:
    """Layers of a large cheap op and a dear small one; the backward reads both."""
    values, ops = [Value("h0", width)], [Op("in", 9, (), (0,))]
    state, saved = 0, []
    for i in range(layers):
        values += [Value(f"wide{i}", 4 * width), Value(f"h{i + 1}", width)]
        wide = len(values) - 2
        ops += [Op(f"wide{i}", 2, (state,), (wide,)), Op(f"mm{i}", 40, (wide,), (wide + 1,))]
        saved.append((state, wide))
        state = wide + 1
    values.append(Value("tangent", 1))
    ops.append(Op("boundary", 0, (state,), (len(values) - 1,), recomputable=False))
    boundary, grad = len(ops) - 1, len(values) - 1
    for i in reversed(range(layers)):
        values.append(Value(f"g{i}", width))
        ops.append(Op(f"b{i}", 80, (grad, *saved[i]), (len(values) - 1,), phase=Phase.BACKWARD))
        grad = len(values) - 1
    return Graph(ops, values, boundary=boundary)


@pytest.mark.parametrize("percent", [80, 60, 45])
def test_layers_are_solved_within_a_hundredth_of_the_bound(percent: int) -> None:
    graph = layered(60)
    peak = simulate(graph, Schedule.keep_all(graph)).peak
    result = solve(Problem(graph, peak * percent // 100), "priced")
    assert result.trace is not None
    assert result.scope == FREE_ORDER
    assert result.lower_bound > graph.total_cost
    assert result.trace.cost <= 1.01 * result.lower_bound


def test_it_is_no_worse_than_the_family_over_all_budgets() -> None:
    graph = layered(30)
    peak = simulate(graph, Schedule.keep_all(graph)).peak
    for percent in (90, 70, 50):
        problem = Problem(graph, peak * percent // 100)
        one, all_budgets = solve(problem, "priced"), solve(problem, "greedy")
        assert one.objective is not None
        assert all_budgets.objective is not None
        assert one.objective <= all_budgets.objective


def test_what_cannot_fit_is_proved() -> None:
    graph = layered(8)
    once = Graph(
        [Op(o.name, o.cost, o.inputs, o.outputs, phase=o.phase, recomputable=False)
         for o in graph.ops],
        graph.values, boundary=graph.boundary,
    )  # fmt: skip
    peak = simulate(once, Schedule.keep_all(once)).peak
    # ops that run once leave nothing to the solver; the bound says so by itself
    assert cost_lower_bound(Problem(once, peak // 2)) is None
    values = [Value(v.name, v.size) for v in graph.values]
    ops = [Op(o.name, o.cost, o.inputs, o.outputs, phase=o.phase,
              recomputable=not o.name.startswith("wide")) for o in graph.ops]  # fmt: skip
    stiff = Graph(ops, values, boundary=graph.boundary)
    assert solve(Problem(stiff, peak // 2), "priced").status is Status.INFEASIBLE


def test_the_peak_objective_and_a_short_limit_are_taken() -> None:
    graph = layered(20)
    peak = simulate(graph, Schedule.keep_all(graph)).peak
    assert solve(Problem(graph, peak, Objective.PEAK), "priced").objective is not None
    assert solve(Problem(graph, peak // 2), "priced", time_limit=1e-6).runtime < 1
