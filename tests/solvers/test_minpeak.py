"""The least peak: a plan fits there, and heuristics do not get as low."""

from __future__ import annotations

import pytest

from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.solver import solve
from pebble.solvers.minpeak import minimum_budget
from tests.graphs import keep_peak, layered_graph, transformer


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_there_is_a_plan_at_the_least_peak_known(seed: int) -> None:
    graph = transformer(2, dropout=True) if seed == 0 else layered_graph(50, seed)
    schedule, peak, bound = minimum_budget(graph, time_limit=3, seed=seed)
    assert simulate(graph, schedule).peak == peak >= bound
    assert bound >= Problem(graph, 0).working_set_bound
    slack = peak + (keep_peak(graph) - peak) // 20
    assert solve(Problem(graph, slack), time_limit=10, seed=seed).schedule is not None
    assert solve(Problem(graph, peak), time_limit=1, start=schedule).schedule is not None


def test_the_least_peak_is_below_what_the_heuristics_reach() -> None:
    graph = transformer(6)
    problem = Problem(graph, keep_peak(graph), Objective.PEAK)
    least = solve(problem, "minpeak", time_limit=5).objective
    other = solve(Problem(graph, 0, Objective.PEAK), "recompute_all").closest_peak
    assert least is not None
    assert other is None or least < other
