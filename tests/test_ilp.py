"""The integer program against exhaustive search over its own class, and over all schedules."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pebble.errors import InvalidArgument, InvalidSchedule
from pebble.graph import Graph, Op, Phase, Value
from pebble.problem import Objective, Problem
from pebble.referee import Trace, simulate
from pebble.schedule import FIXED_ORDER, Schedule
from pebble.solver import Answer, Status, solve
from pebble.solvers import ilp
from pebble.solvers.integer.stage_model import StageModel


def random_graph(rng: random.Random, n: int) -> Graph:
    """Multi-output ops, workspace, pinned values, ops that may run only once."""
    values = [Value("x", 9, external=True)]
    ops = []
    for i in range(n):
        recent = range(max(1, len(values) - 5), len(values))
        reads = {v for v in recent if rng.random() < 0.4} | ({0} if rng.random() < 0.3 else set())
        outputs = range(len(values), len(values) + rng.choice((1, 1, 1, 2)))
        for v in outputs:
            values.append(Value(str(v), rng.randint(0, 6), pinned=rng.random() < 0.1))
        ops.append(
            Op(
                str(i), rng.randint(0, 6), tuple(sorted(reads)), tuple(outputs),
                workspace=rng.choice((0, 0, 2)), recomputable=rng.random() < 0.85,
                phase=Phase.FORWARD if i < n / 2 else Phase.BACKWARD,
            )
        )  # fmt: skip
    return Graph(ops, values)


def stage_choices(graph: Graph, t: int) -> Iterator[list[int]]:
    earlier = [i for i in range(t) if graph.ops[i].recomputable]
    for size in range(len(earlier) + 1):
        for again in itertools.combinations(earlier, size):
            yield [*again, t]


def copies_after(graph: Graph, held: frozenset[int], stage: list[int]) -> frozenset[int] | None:
    """Values with any copy after a stage, None if an input is missing."""
    now = set(held)
    for i in stage:
        if any(v not in now for v in graph.ops[i].inputs if not graph.values[v].external):
            return None
        now.update(graph.ops[i].outputs)
    return frozenset(now)


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


def least_free_order(graph: Graph, budget: int) -> int | None:
    """Dijkstra over (values held, ops done): any order, any number of executions."""
    start = (frozenset[int](), frozenset[int]())
    queue, best, ticket = [(0, 0, start)], {start: 0}, itertools.count(1)
    size = [0 if v.external else v.size for v in graph.values]
    while queue:
        cost, _, (held, done) = heapq.heappop(queue)
        if best[held, done] < cost:
            continue
        if len(done) == len(graph.ops):
            return cost
        for i, op in enumerate(graph.ops):
            reads = {v for v in op.inputs if not graph.values[v].external}
            if not reads <= held or (i in done and not op.recomputable):
                continue
            doubles = [v for v in op.outputs if graph.values[v].pinned and i in done]
            after = held | set(op.outputs)
            if sum(size[v] for v in after) + sum(size[v] for v in doubles) + op.workspace > budget:
                continue
            state = (frozenset(after), done | {i})
            if cost + op.cost < best.get(state, 10**9):
                best[state] = cost + op.cost
                heapq.heappush(queue, (cost + op.cost, next(ticket), state))
        for v in held:
            if not graph.values[v].pinned:
                new = (held - {v}, done)
                if cost < best.get(new, 10**9):
                    best[new] = cost
                    heapq.heappush(queue, (cost, next(ticket), new))
    return None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**9), st.integers(2, 8), st.floats(0, 1))
def test_equals_exhaustive_search_over_its_class(seed: int, n: int, share: float) -> None:
    graph = random_graph(random.Random(seed), n)
    peak = simulate(graph, range(n)).peak
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
    free = least_free_order(graph, budget)
    assert free is not None
    assert free <= expected


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**9))
def test_hints_are_solutions(seed: int) -> None:
    """A schedule put into the model satisfies every row, memory included."""
    rng = random.Random(seed)
    graph = random_graph(rng, 8)
    model = StageModel(Problem(graph, 10**6), [op.recomputable for op in graph.ops])  # fmt: skip
    model.build()
    stages = [[t] for t in range(8)]
    for t, runs in enumerate(model.runs):
        stages[t] = sorted({t, *(k for k in runs if rng.random() < 0.2)})
    schedule = Schedule(tuple(i for stage in stages for i in stage))
    model.limit_memory(simulate(graph, schedule).peak)
    true = model.hint(stages)
    assert true is not None
    used = [  # rows that forbid useless runs may refuse a random schedule; memory may not
        row for row in model.rows.rows if max(row[1]) > 1
    ]
    for literals, coefficients, upper in used:
        assert sum(c for c, x in zip(coefficients, literals) if true[x]) <= upper


def test_engines_agree_and_only_integers_prove() -> None:
    graph = random_graph(random.Random(11), 9)
    peak = simulate(graph, range(9)).peak
    least = Problem(graph, 0).working_set_bound
    problem = Problem(graph, (peak + least) // 2)
    exact = solve(problem, "ilp", time_limit=20)
    floating = solve(problem, "ilp", time_limit=20, engine="highs")
    assert exact.status in (Status.OPTIMAL, Status.INFEASIBLE)
    assert floating.objective == exact.objective
    with pytest.raises(InvalidArgument, match="no engine 'scip'; choose one of cpsat, highs"):
        solve(problem, "ilp", engine="scip")


def test_least_peak() -> None:
    rng = random.Random(3)
    for _ in range(5):
        graph = random_graph(rng, 5)
        problem = Problem(graph, 10**6, Objective.PEAK)
        result = solve(problem, "ilp", time_limit=20)
        budgets = range(problem.working_set_bound, simulate(graph, range(5)).peak + 1)
        expected = next(b for b in budgets if least_fixed_order(graph, b, 10**3) is not None)
        assert (result.objective, result.lower_bound) == (expected, expected)
        assert result.status is Status.OPTIMAL


def test_a_start_within_the_class_is_used() -> None:
    graph = Graph(
        [Op("a", 5, (), (0,)), Op("b", 5, (0,), (1,)), Op("c", 5, (1,), (2,)), Op("d", 5, (2, 0), (3,))],  # noqa: E501
        [Value(name, 10) for name in "abcd"],
    )  # fmt: skip
    start = [Schedule((0, 1, 2, 0, 3))]
    result = solve(Problem(graph, 30), "ilp", start=start)
    assert (result.objective, result.status) == (20, Status.OPTIMAL)


def nothing(problem: Problem, **options: object) -> Answer:
    return Answer(None)


@pytest.mark.parametrize("seed", range(12))
def test_a_start_just_above_the_optimum_does_not_pass_for_it(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rung of the ladder of cost limits that promised too much would end the search there."""
    monkeypatch.setattr(ilp, "get_solver", lambda name: (name, nothing))
    monkeypatch.setattr(
        ilp, "crossing_lower_bound", lambda problem, **options: problem.graph.total_cost
    )
    graph = random_graph(random.Random(seed), 6)
    graph = Graph([replace(op, cost=20 + 7 * op.cost) for op in graph.ops], graph.values)
    peak = simulate(graph, range(6)).peak
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
    graph = random_graph(random.Random(3), 20)
    peak = simulate(graph, range(20)).peak
    monkeypatch.setattr(ilp, "LARGEST_MODEL", 10)
    result = solve(Problem(graph, peak - 1), "ilp", time_limit=5)
    assert (result.status, result.schedule) == (Status.NOT_FOUND, None)
    assert "program for 20 ops has more than 10 terms" in result.message
