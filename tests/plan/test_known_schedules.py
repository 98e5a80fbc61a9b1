"""What a process remembers: more budget never costs more, and what is known to fit is found."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

import pebble
from pebble.budget import Footprint, Resident
from pebble.deadline import Deadline
from pebble.graph import Graph
from pebble.options import SearchOptions
from pebble.plan import known_schedules
from pebble.plan.known_schedules import KNOWN
from pebble.plan.search import PlanSearch
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Result, Status, get_solver, solve
from tests.graphs import keep_peak, training_chain


@pytest.fixture
def unlucky(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The portfolio finds what a schedule drawn at random for each call says, or nothing."""
    draws = random.Random(0)

    def auto(problem: Problem, **_: Any) -> Answer:
        name = draws.choice(["greedy", "sqrt", "recompute_all", "keep_all", ""])
        return get_solver(name)[1](problem) if name else Answer(None)

    real = pebble.plan.search.solve

    def solve_badly(problem: Problem, solver: Any = "auto", **options: Any) -> Result:
        if solver != "auto":
            return real(problem, solver, **options)
        known = {k: v for k, v in options.items() if k in ("time_limit", "seed", "report")}
        return replace(real(problem, auto, **known), solver="auto")

    monkeypatch.setattr(pebble.plan.search, "solve", solve_badly)
    yield


def found(graph: Graph, budget: int, **options: Any) -> Result | None:
    search = PlanSearch(budget, SearchOptions(**options), Deadline(1.0))
    return search.find(Footprint(graph, Resident({})))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.usefixtures("unlucky")
def test_more_budget_never_costs_more_in_calls_of_any_order(seed: int) -> None:
    graph = training_chain(24)
    top = keep_peak(graph)
    budgets = [top // 4 + (top - top // 4) * i // 19 for i in range(20)]
    random.Random(seed).shuffle(budgets)
    calls: list[tuple[int, int]] = []
    for budget in budgets:
        result = found(graph, budget)
        smaller = [cost for before, cost in calls if before <= budget]
        if result is None:
            assert not smaller, "a budget at which a schedule is known to fit is refused"
            continue
        assert result.trace is not None
        assert result.trace.peak <= budget
        assert all(result.trace.cost <= cost for cost in smaller)
        calls.append((result.trace.peak, result.trace.cost))
    assert len(calls) > 5


def test_who_names_a_solver_gets_its_schedule_unless_it_has_none() -> None:
    graph = training_chain(8)
    footprint, top = Footprint(graph, Resident({})), keep_peak(graph)
    greedy = found(graph, top - 1, solver="greedy")
    assert greedy is not None and greedy.trace is not None
    best = found(graph, top - 1)
    assert best is not None and best.objective is not None
    alone = solve(footprint.problem(top - 1), "greedy")
    again = found(graph, top - 1, solver="greedy")
    assert again is not None
    assert (again.schedule, again.solver) == (alone.schedule, "greedy")
    instead = found(graph, top - 1, solver="keep_all")
    assert instead is not None
    assert instead.objective is not None
    assert instead.objective <= best.objective
    assert instead.solver != "keep_all"


def result_of(graph: Graph, budget: int, bound: int) -> Result:
    answer = Answer(Schedule.keep_all(graph), lower_bound=bound)
    return replace(solve(Problem(graph, budget), lambda problem: answer), solver="auto")


def test_a_bound_holds_for_smaller_budgets_of_the_same_costs_only() -> None:
    graph = training_chain(6)
    top = keep_peak(graph)
    plain = solve(Problem(graph, top - 1), "greedy")
    assert plain.status is Status.FEASIBLE
    assert plain.objective is not None
    proved = plain.objective
    KNOWN.add_result(result_of(graph, top, proved))
    assert KNOWN.with_bound(plain).lower_bound == proved
    assert KNOWN.with_bound(plain).status is Status.OPTIMAL
    assert KNOWN.with_bound(result_of(graph, top + 1, 0)).lower_bound == graph.total_cost
    dearer = graph.with_measures(costs=[2 * op.cost for op in graph.ops])
    other = solve(Problem(dearer, top - 1), "recompute_all")
    assert KNOWN.with_bound(other).lower_bound == dearer.total_cost


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_schedules, "MOST_EACH", 3)
    monkeypatch.setattr(known_schedules, "MOST_GRAPHS", 2)
    graph, order = training_chain(6), Schedule.keep_all(training_chain(6))
    n = len(graph.ops)
    for peak in range(10):
        longer = Schedule((*order.order, *range(n)[: 9 - peak]))
        KNOWN.add(graph, longer, "auto", 100 + peak)
    leanest = KNOWN.leanest(graph)
    assert leanest is not None
    assert leanest.peak_bytes == 100
    widest = KNOWN.cheapest(Problem(graph, 1000))
    assert widest is not None
    assert widest.peak_bytes == 109
    for length in (7, 8):
        KNOWN.add(training_chain(length), Schedule.keep_all(training_chain(length)), "auto", 1)
    assert KNOWN.leanest(graph) is None, "the graph used longest ago is forgotten"


def test_other_workspaces_are_another_graph() -> None:
    graph = training_chain(6)
    schedule = Schedule.keep_all(graph)
    KNOWN.add(graph, schedule, "auto", simulate(graph, schedule).peak)
    assert KNOWN.leanest(graph.with_measures(costs=[7 for _ in graph.ops])) is not None
    assert KNOWN.leanest(graph.with_measures(workspaces=[7 for _ in graph.ops])) is None
