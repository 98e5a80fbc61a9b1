"""Retention intervals: against exhaustive search in free order and the integer program in fixed."""

from __future__ import annotations

import random

import pytest

from pebble.errors import InvalidArgument
from pebble.graph import Graph
from pebble.problem import Objective, Problem
from pebble.schedule import Schedule
from pebble.solver import Status, solve
from pebble.solvers import cpsat
from tests.graphs import keep_peak, rich_graph
from tests.optima import least_cost


def small_graph(seed: int, n: int) -> Graph:
    """Few reads, so that some values may go."""
    return rich_graph(seed, n, reads=(0, 2), reach=5, size=(0, 6), cost=(0, 6))


@pytest.mark.parametrize("seed", range(16))
def test_free_order_equals_exhaustive_search(seed: int) -> None:
    graph = small_graph(seed, 5)
    least, peak = Problem(graph, 0).working_set_bound, keep_peak(graph)
    problem = Problem(graph, random.Random(seed).randint(least, peak))
    result = solve(problem, "cpsat", time_limit=20)
    expected = least_cost(problem, copies=2)
    assert result.objective == expected
    if expected is None:
        assert result.status is Status.INFEASIBLE
        assert str(result.scope) == "free order, at most 2 executions per op"
    else:
        assert result.status is Status.OPTIMAL


@pytest.mark.parametrize("seed", range(8))
def test_fixed_order_agrees_with_the_integer_program(seed: int) -> None:
    graph = small_graph(seed, 9)
    least, peak = Problem(graph, 0).working_set_bound, keep_peak(graph)
    problem = Problem(graph, (least + 2 * peak) // 3)
    narrow = solve(problem, "cpsat", time_limit=20, order="fixed", copies=3)
    wide = solve(problem, "ilp", time_limit=20)
    if wide.objective is None:
        assert narrow.status is Status.INFEASIBLE
        return
    assert wide.schedule is not None
    if wide.schedule.executions(9).max() <= 3:
        assert narrow.objective == wide.objective
        assert narrow.status is Status.OPTIMAL
    else:  # three executions of each op may cost more, and may not be enough
        assert narrow.objective is None or narrow.objective >= wide.objective


def test_least_peak_and_starts() -> None:
    graph = small_graph(3, 7)
    problem = Problem(graph, 10**6, Objective.PEAK)
    result = solve(problem, "cpsat", time_limit=20, start=Schedule.keep_all(graph))
    budgets = range(problem.working_set_bound, keep_peak(graph) + 1)
    expected = next(b for b in budgets if least_cost(Problem(graph, b), copies=2) is not None)
    assert (result.objective, result.lower_bound) == (expected, expected)


def test_options_are_checked_and_size_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small_graph(1, 6)
    tight = Problem(graph, Problem(graph, 0).working_set_bound)
    with pytest.raises(InvalidArgument, match="no order 'any'"):
        solve(tight, "cpsat", order="any")
    with pytest.raises(InvalidArgument, match="at least once"):
        solve(tight, "cpsat", copies=0)
    monkeypatch.setattr(cpsat, "LARGEST_MODEL", 1)
    wide = small_graph(8, 12)
    result = solve(Problem(wide, keep_peak(wide) - 1), "cpsat")
    assert result.schedule is None
    assert "reads; use 'auto'" in result.message
