"""The bounds of one moment, in any order and in the reference order, against exhaustive search."""

from __future__ import annotations

import pytest

from pebble.problem import Problem
from pebble.solvers.integer.moment_programs import crossing_lower_bound
from pebble.solvers.integer.reference_order import in_reference_order
from tests.graphs import budgets, plain_graph, rich_graph
from tests.optima import least_cost


@pytest.mark.parametrize("rich", [False, True])
def test_the_bound_of_one_moment_is_below_every_schedule(rich: bool) -> None:
    useful = 0
    for seed in range(120):
        graph = rich_graph(seed, reads=(1, 3), cost=(1, 9)) if rich else plain_graph(seed, 8)
        for budget in budgets(graph)[:3]:
            problem = Problem(graph, budget)
            best, bound = least_cost(problem), crossing_lower_bound(problem)
            if bound is None:
                assert best is None, (seed, budget)
            elif best is not None:
                assert bound <= best, (seed, budget)
                useful += bound > graph.total_cost
    assert useful > 2, "the bound never says anything"


def test_the_bound_in_reference_order_is_that_of_its_own_class() -> None:
    above = 0
    for seed in range(40):
        graph = plain_graph(seed, 8)
        for budget in budgets(graph)[:3]:
            problem = Problem(graph, budget)
            told = in_reference_order(problem)
            best, bound = least_cost(problem, in_order=True), crossing_lower_bound(told)
            assert least_cost(told) == best, "the marks keep the order and cost nothing"
            if bound is None:
                assert best is None
            elif best is not None:
                assert bound <= best
                above += bound > (crossing_lower_bound(problem) or 0)
    assert above, "never more than in free order"
