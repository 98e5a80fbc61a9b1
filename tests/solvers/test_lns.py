"""Neighbourhood search: never worse than its start, and exact once it holds everything."""

from __future__ import annotations

import random

import pytest

from pebble.graph import Graph, Op, Value
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import FIXED_ORDER, Schedule
from pebble.solver import Status, solve


def layered(seed: int, n: int) -> Graph:
    """One op makes one value; readers are near and, sometimes, far."""
    rng = random.Random(seed)
    reads = [
        sorted({rng.randrange(max(0, i - 6), i), *(v for v in range(i) if rng.random() < 1.5 / n)})
        if i
        else []
        for i in range(n)
    ]
    ops = [Op(str(i), rng.randint(0, 40), tuple(reads[i]), (i,)) for i in range(n)]
    return Graph(ops, [Value(str(i), rng.randint(1, 40)) for i in range(n)])


@pytest.mark.parametrize("seed", range(6))
def test_meets_the_optimum_of_the_integer_program(seed: int) -> None:
    graph = layered(seed, 22)
    problem = Problem(graph, simulate(graph, range(22)).peak * 8 // 10)
    exact = solve(problem, "ilp", time_limit=20)
    result = solve(problem, "lns", time_limit=20)
    if result.schedule is None:
        return  # neither greedy nor chain has a start
    assert exact.status is Status.OPTIMAL
    assert result.objective == exact.objective
    if result.scope.fixed_order:
        assert result.lower_bound == exact.lower_bound


def test_improves_its_start_and_keeps_what_it_cannot_improve() -> None:
    graph = layered(7, 60)
    problem = Problem(graph, simulate(graph, range(60)).peak * 85 // 100)
    start = solve(problem, "greedy")
    assert start.schedule is not None
    result = solve(problem, "lns", time_limit=30, start=start.schedule, rounds=12)
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
    graph = layered(3, 30)
    least = Problem(graph, 0).working_set_bound
    result = solve(Problem(graph, least), "lns", time_limit=5)
    assert result.schedule is None
    assert "No start is within the budget" in result.message
