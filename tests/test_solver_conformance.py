"""Every registered solver, found by its name, held to the rules by a replay written apart."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from pebble.graph import Graph, Op, Value
from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import Schedule, Scope
from pebble.solver import Progress, Result, Status, capabilities, solve, solver_names
from tests.graphs import budgets, random_graph, random_training_graph, rich_graph

# The others promise this only together with the plans of smaller budgets, as sweeps hand them on.
MONOTONE = ("keep_all", "recompute_all", "greedy", "sqrt", "chain")
GRAPHS = 12
SECONDS = 0.4


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
        graph = (
            random_training_graph(seed)
            if seed % 3
            else random_graph(seed, random.Random(seed).randint(2, 16))
        )
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
    for schedule in (result.schedule, *known_in_order(problem)):
        if result.scope.contains(problem.graph, schedule):
            least = simulate(problem, schedule)
            found = least.cost if problem.objective is Objective.COST else least.peak
            assert result.lower_bound <= found, "a schedule of its scope is below the bound"
    if not problem.recompute:
        assert len(result.schedule) == len(problem.graph.ops)


@functools.cache
def known_in_order(problem: Problem) -> tuple[Schedule, ...]:
    """Schedules in the reference order that fit: every op once, and the best that is known."""
    exact = solve(problem, "ilp", time_limit=5.0)
    assert exact.status in (Status.OPTIMAL, Status.INFEASIBLE)
    found = (Schedule.keep_all(problem.graph), exact.schedule)
    return tuple(
        schedule
        for schedule in found
        if schedule is not None and simulate(problem, schedule).peak <= problem.budget
    )


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
    options = {"iterations": 20_000} if "iterations" in capabilities(name).options else {}
    first, second = (solve(problem, name, time_limit=5.0, seed=3, **options) for _ in range(2))
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


@pytest.mark.parametrize("generous", [True, False])
def test_reports_improve(name: str, generous: bool) -> None:
    problem = instances()[1]
    if generous:
        problem = replace(problem, budget=10**6)
    seen: list[Progress] = []
    result = solve(problem, name, time_limit=SECONDS, report=seen.append)
    costs = [p.incumbent for p in seen if p.incumbent is not None]
    assert costs == sorted(costs, reverse=True)
    assert result.schedule is not None or not generous
    if result.objective is None:
        # `minpeak` takes the budget as an upper limit only, and reports on its way down to it.
        assert not costs or name == "minpeak", "reported, and not returned"
    elif "report" in capabilities(name).keywords:
        assert costs, "found, and not reported"
        assert result.objective <= costs[-1]
    else:
        assert not seen


def test_no_bound_of_any_solver_exceeds_a_schedule_of_its_scope() -> None:
    """All bounds and schedules of all solvers on the same problems, each against each."""
    for seed in range(6):
        graph = rich_graph(seed)
        problem = Problem(graph, budgets(graph)[-1] - 1)
        claims: list[tuple[str, int, Scope]] = []
        schedules: list[tuple[str, Schedule, int]] = []
        for name in solver_names():
            result = solve(problem, name, time_limit=0.6)
            if result.status is Status.INFEASIBLE:
                claims.append((name, 2**62, result.scope))
            else:
                claims.append((name, result.lower_bound, result.scope))
            if result.schedule is not None and result.objective is not None:
                schedules.append((name, result.schedule, result.objective))
        for (who, bound, scope), (whose, schedule, cost) in itertools.product(claims, schedules):
            if scope.contains(graph, schedule):
                assert bound <= cost, f"seed {seed}: {who} claims {bound}, {whose} has {cost}"


def test_keep_all_runs_each_op_once_in_order() -> None:
    graph = random_training_graph(5)
    assert solve(Problem(graph, 10**6), "keep_all").schedule == Schedule.keep_all(graph)
