"""Bisection along the price of memory: near its bound, and no worse than the wider family."""

from __future__ import annotations

import pytest

from pebble.graph import Graph, Op, Value
from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import FREE_ORDER, Schedule
from pebble.solver import Status, solve
from pebble.solvers import priced
from pebble.solvers.bounds.moment_cuts import cost_lower_bound
from tests.graphs import keep_peak, wide_net


@pytest.mark.parametrize("percent", [80, 60, 45])
def test_layers_are_solved_within_a_hundredth_of_the_bound(percent: int) -> None:
    graph = wide_net(60)
    peak = keep_peak(graph)
    result = solve(Problem(graph, peak * percent // 100), "priced")
    assert result.trace is not None
    assert result.scope == FREE_ORDER
    assert result.lower_bound > graph.total_cost
    assert result.trace.cost <= 1.01 * result.lower_bound


def test_it_is_no_worse_than_the_family_over_all_budgets() -> None:
    graph = wide_net(30)
    peak = keep_peak(graph)
    for percent in (90, 70, 50):
        problem = Problem(graph, peak * percent // 100)
        one, all_budgets = solve(problem, "priced"), solve(problem, "greedy")
        assert one.objective is not None
        assert all_budgets.objective is not None
        assert one.objective <= all_budgets.objective


def test_what_cannot_fit_is_proved() -> None:
    graph = wide_net(8)
    once = Graph(
        [Op(o.name, o.cost, o.inputs, o.outputs, phase=o.phase, recomputable=False)
         for o in graph.ops],
        graph.values, boundary=graph.boundary,
    )  # fmt: skip
    peak = keep_peak(once)
    # ops that run once leave nothing to the solver; the bound says so by itself
    assert cost_lower_bound(Problem(once, peak // 2)) is None
    values = [Value(v.name, v.size) for v in graph.values]
    ops = [Op(o.name, o.cost, o.inputs, o.outputs, phase=o.phase,
              recomputable=not o.name.startswith("wide")) for o in graph.ops]  # fmt: skip
    stiff = Graph(ops, values, boundary=graph.boundary)
    assert solve(Problem(stiff, peak // 2), "priced").status is Status.INFEASIBLE


def test_the_peak_objective_is_taken() -> None:
    graph = wide_net(20)
    assert solve(Problem(graph, keep_peak(graph), Objective.PEAK), "priced").objective is not None


def test_a_short_limit_ends_the_search_after_a_few_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    replays: list[object] = []

    def counted(problem: Problem, schedule: Schedule) -> object:
        replays.append(schedule)
        return simulate(problem, schedule)

    monkeypatch.setattr(priced, "simulate", counted)
    graph = wide_net(20)
    problem = Problem(graph, keep_peak(graph) // 2)
    solve(problem, "priced")
    patient = len(replays)
    replays.clear()
    solve(problem, "priced", time_limit=1e-6)
    assert len(replays) <= 4 < patient
