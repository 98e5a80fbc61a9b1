"""The portfolio in the reference order, against the exact program."""

from __future__ import annotations

import pytest

from pebble.errors import InvalidArgument
from pebble.graph import Graph
from pebble.problem import Problem
from pebble.schedule import FIXED_ORDER
from pebble.solver import Status, solve
from tests.graphs import keep_peak, layered_graph, skipping_graph


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_fixed_order_is_as_good_as_the_exact_program(seed: int) -> None:
    as_good_as_the_exact_program(layered_graph(30, seed))


def test_fixed_order_is_as_good_as_the_exact_program_on_few_ops() -> None:
    as_good_as_the_exact_program(skipping_graph(1, 16))


def as_good_as_the_exact_program(graph: Graph) -> None:
    problem = Problem(graph, int(0.85 * keep_peak(graph)))
    exact = solve(problem, "ilp", time_limit=90)
    result = solve(problem, "auto", time_limit=90, order="fixed")
    assert exact.status in (Status.OPTIMAL, Status.INFEASIBLE)
    assert (result.objective, result.status) == (exact.objective, exact.status)
    if result.schedule is not None:
        assert FIXED_ORDER.contains(graph, result.schedule)


def test_another_order_is_refused() -> None:
    problem = Problem(skipping_graph(1, 16), 10**6)
    with pytest.raises(InvalidArgument, match="no order 'any'; choose one of free, fixed"):
        solve(problem, "auto", order="any")
