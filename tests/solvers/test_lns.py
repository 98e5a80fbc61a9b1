"""Neighbourhood search: never worse than its start, and exact once it holds everything."""

from __future__ import annotations

import pytest

from pebble.graph import Graph, Op, Value
from pebble.problem import Problem
from pebble.schedule import FIXED_ORDER, Schedule
from pebble.solver import Status, solve
from tests.graphs import keep_peak, skipping_graph


@pytest.mark.parametrize("seed", range(6))
def test_meets_the_optimum_of_the_integer_program(seed: int) -> None:
    graph = skipping_graph(seed, 22, reach=6)
    problem = Problem(graph, keep_peak(graph) * 85 // 100)
    exact = solve(problem, "ilp", time_limit=20)
    assert exact.status is Status.OPTIMAL
    result = solve(problem, "lns", time_limit=20, start=start_of(problem))
    assert result.objective == exact.objective
    assert not result.scope.fixed_order or result.lower_bound == exact.lower_bound


def start_of(problem: Problem) -> Schedule:
    """A schedule of the class that fits, as bad as one can have it."""
    for name in ("recompute_all", "sqrt", "chain", "greedy", "ilp"):
        found = solve(problem, name, time_limit=20).schedule
        if found is not None and FIXED_ORDER.contains(problem.graph, found):
            return found
    raise AssertionError("the integer program found one before")


def test_improves_its_start_and_keeps_what_it_cannot_improve() -> None:
    graph = skipping_graph(7, 40, reach=6)
    problem = Problem(graph, keep_peak(graph) * 85 // 100)
    start = solve(problem, "greedy")
    assert start.schedule is not None
    result = solve(problem, "lns", time_limit=30, start=start.schedule, rounds=4)
    assert result.objective is not None
    assert result.objective < (start.objective or 0)
    assert FIXED_ORDER.contains(graph, result.schedule)
    outside = Graph(
        [Op("a", 1, (), (0,)), Op("b", 1, (), (1,)), Op("c", 5, (0, 1), (2,)), Op("d", 1, (0, 2), (3,))],  # noqa: E501
        [Value(name, 2) for name in "abcd"],
    )  # fmt: skip
    swapped = Schedule((1, 0, 2, 0, 3))
    kept = solve(Problem(outside, 6), "lns", start=swapped)
    assert kept.schedule in (swapped, Schedule.keep_all(outside))


def test_no_start_within_the_budget_is_said() -> None:
    graph = skipping_graph(3, 30, reach=6)
    least = Problem(graph, 0).working_set_bound
    result = solve(Problem(graph, least), "lns", time_limit=5)
    assert result.schedule is None
    assert "No start is within the budget" in result.message
