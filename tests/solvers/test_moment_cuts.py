"""The bound of minimum cuts, for any order, against exhaustive search."""

from __future__ import annotations

import pytest

from pebble.problem import Problem
from pebble.solvers.bounds.moment_cuts import cost_lower_bound
from tests.graphs import keep_peak, rich_graph
from tests.optima import least_cost


@pytest.mark.parametrize("seed", range(60))
def test_the_bound_is_never_above_the_optimum_of_any_order(seed: int) -> None:
    graph = rich_graph(seed)
    peak = keep_peak(graph)
    for budget in range(Problem(graph, 0).working_set_bound, peak + 1):
        problem = Problem(graph, budget)
        bound, optimum = cost_lower_bound(problem), least_cost(problem)
        if bound is None:
            assert optimum is None
        elif optimum is not None:
            assert graph.total_cost <= bound <= optimum
