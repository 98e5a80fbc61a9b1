"""Every registered solver, found by its name, held to the rules by a replay written apart."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from pebble.graph import Graph, Op, Phase, Value
from pebble.problem import Objective, Problem
from pebble.schedule import Schedule
from pebble.solver import Progress, Result, Status, solve, solver_names

# The others promise this only together with the plans of smaller budgets, as sweeps hand them on.
MONOTONE = ("keep_all", "recompute_all", "greedy", "sqrt", "chain")
GRAPHS = 12
SECONDS = 0.4


def random_training_graph(seed: int) -> Graph:
    """A forward half, a boundary op and a backward half, with everything a real one has."""
    rng = random.Random(seed)
    values = [Value("x", 50, external=True)]
    ops: list[Op] = []

    def make(name: str, reads: Sequence[int], phase: Phase, *, last: bool = False) -> list[int]:
        outputs = []
        for k in range(rng.choice((1, 1, 1, 2, 3))):
            outputs.append(len(values))
            pinned = (last and k == 0) or rng.random() < 0.08
            values.append(Value(f"{name}.{k}", rng.randint(0, 9), pinned=pinned))
        workspace, keep = rng.choice((0, 0, 3)), rng.random() < 0.15
        ops.append(
            Op(name, rng.randint(0, 9), tuple(reads), tuple(outputs), workspace, phase, not keep)
        )
        return outputs

    made: list[int] = [0]
    for i in range(rng.randint(2, 9)):
        reads = {rng.choice(made[-3:]), *(v for v in made if rng.random() < 0.1)}
        made += make(f"f{i}", sorted(reads), Phase.FORWARD)
    loss = made[-1]
    values[loss] = Value(values[loss].name, values[loss].size, pinned=True)
    outputs = [v for v in made if values[v].pinned]
    tangent = len(values)
    values.append(Value("tangent", 1))
    ops.append(Op("boundary", 0, tuple(outputs), (tangent,), recomputable=False))
    grad = tangent
    for i in range(rng.randint(1, 9)):
        reads = {grad, *(v for v in made if rng.random() < 0.3)}
        grad = make(f"b{i}", sorted(reads), Phase.BACKWARD, last=rng.random() < 0.3)[-1]
    return Graph(ops, values, boundary=len(ops) - 1 - sum(op.phase == "backward" for op in ops))


def random_plain_graph(seed: int) -> Graph:
    """A DAG without halves: one op makes one value, as in published benchmarks."""
    rng = random.Random(seed)
    n = rng.randint(2, 16)
    reads = [sorted({rng.randrange(i) for _ in range(rng.randint(1, 3))} if i else ()) for i in range(n)]  # fmt: skip  # noqa: E501
    ops = [Op(str(i), rng.randint(0, 9), tuple(reads[i]), (i,)) for i in range(n)]
    return Graph(ops, [Value(str(i), rng.randint(0, 9)) for i in range(n)])


def replay(graph: Graph, order: Sequence[int]) -> tuple[int, int]:
    """Peak and cost, from the rules alone: look ahead for the last reader of each copy."""
    alive: dict[tuple[int, int], int] = {}  # (value, step made) -> last step
    latest: dict[int, tuple[int, int]] = {}
    done: set[int] = set()
    for step, i in enumerate(order):
        op = graph.ops[i]
        assert op.recomputable or i not in done, f"{op.name} may run only once"
        for v in op.inputs:
            if not graph.values[v].external:
                assert v in latest, f"step {step}: {op.name} reads {v}, which was never made"
                alive[latest[v]] = max(alive[latest[v]], step)
        for v in op.outputs:
            alive[v, step] = step
            if graph.values[v].pinned and i not in done:
                alive[v, step] = len(order) - 1
            if not (graph.values[v].pinned and i in done):
                latest[v] = (v, step)
        done.add(i)
    assert done == set(range(len(graph.ops))), "every op runs"
    peak = 0
    for step, i in enumerate(order):
        held = [v for (v, start), end in alive.items() if start <= step <= end]
        peak = max(peak, graph.ops[i].workspace + sum(graph.values[v].size for v in held))
    return peak, sum(graph.ops[i].cost for i in order)


def instances() -> list[Problem]:
    problems = []
    for seed in range(GRAPHS):
        graph = random_training_graph(seed) if seed % 3 else random_plain_graph(seed)
        peak, _ = replay(graph, range(len(graph.ops)))
        least = Problem(graph, 0).working_set_bound
        problems.append(Problem(graph, random.Random(seed).randint(least, peak)))
    return problems


def check(problem: Problem, result: Result) -> None:
    """What holds for every result, whoever made it."""
    if result.schedule is None:
        assert result.status in (Status.INFEASIBLE, Status.NOT_FOUND)
        return
    peak, cost = replay(problem.graph, result.schedule.order)
    assert result.trace is not None
    assert (peak, cost) == (result.trace.peak, result.trace.cost)
    assert peak <= problem.budget
    assert result.lower_bound <= (result.objective or 0) or result.scope.fixed_order
    if not problem.recompute:
        assert len(result.schedule) == len(problem.graph.ops)


@pytest.fixture(params=solver_names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("problem", instances(), ids=range(GRAPHS))
def test_schedules_keep_the_rules(name: str, problem: Problem) -> None:
    check(problem, solve(problem, name, time_limit=SECONDS))


def test_without_recomputation_and_for_the_peak(name: str) -> None:
    graph = random_training_graph(1)
    peak, _ = replay(graph, range(len(graph.ops)))
    for problem in (
        Problem(graph, peak, recompute=False),
        Problem(graph, peak, Objective.PEAK),
        Problem(graph, peak - 1, Objective.PEAK, recompute=False),
    ):
        check(problem, solve(problem, name, time_limit=SECONDS))


def test_a_generous_budget_needs_no_recomputation(name: str) -> None:
    graph = random_training_graph(2)
    result = solve(Problem(graph, 10**6), name, time_limit=SECONDS)
    assert result.schedule is not None
    if name != "recompute_all":
        assert (result.status, result.objective) == (Status.OPTIMAL, graph.total_cost)


def test_an_empty_graph_and_a_single_op(name: str) -> None:
    assert solve(Problem(Graph([], []), 0), name, time_limit=SECONDS).objective == 0
    one = Graph([Op("a", 3, (), (0,), workspace=2)], [Value("v", 4, pinned=True)])
    result = solve(Problem(one, 6), name, time_limit=SECONDS)
    assert (result.objective, result.status) == (3, Status.OPTIMAL)


def test_a_seed_gives_the_same_schedule_again(name: str) -> None:
    problem = Problem(random_training_graph(4), 60)
    first, second = (solve(problem, name, time_limit=5.0, seed=3) for _ in range(2))
    if name == "auto":  # two searches side by side: which one ends first is the machine's doing
        assert first.objective == second.objective
        return
    assert first.schedule == second.schedule
    assert (first.lower_bound, first.scope) == (second.lower_bound, second.scope)


@pytest.mark.parametrize("name", MONOTONE)
def test_a_larger_budget_never_costs_more(name: str) -> None:
    for seed in range(1, 9):
        graph = random_training_graph(seed)
        peak, _ = replay(graph, range(len(graph.ops)))
        costs = [solve(Problem(graph, b), name).objective for b in range(peak // 3, peak + 2)]
        found = [cost for cost in costs if cost is not None]
        assert costs[len(costs) - len(found) :] == found, "a plan is never lost again"
        assert found == sorted(found, reverse=True)


def test_reports_improve(name: str) -> None:
    problem = instances()[1]
    seen: list[Progress] = []
    result = solve(problem, name, time_limit=SECONDS, report=seen.append)
    costs = [p.incumbent for p in seen if p.incumbent is not None]
    assert costs == sorted(costs, reverse=True)
    if costs and result.objective is not None:
        assert result.objective <= costs[-1]


def test_keep_all_runs_each_op_once_in_order() -> None:
    graph = random_training_graph(5)
    assert solve(Problem(graph, 10**6), "keep_all").schedule == Schedule.keep_all(graph)
