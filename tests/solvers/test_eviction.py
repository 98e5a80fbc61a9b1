"""Runs of the reference order under a memory limit."""

from __future__ import annotations

import pytest

from pebble.problem import Problem
from pebble.referee import simulate
from pebble.solvers.edits.eviction import EvictingRun
from tests.graphs import keep_peak, residual_net


@pytest.mark.parametrize("seed", range(5))
def test_evicting_runs_stay_within_a_generous_limit(seed: int) -> None:
    graph = residual_net(8, seed)
    problem = Problem(graph, 0)
    peak = keep_peak(graph)
    limit = (problem.working_set_bound + 3 * peak) // 4
    schedule = EvictingRun(problem).schedule(limit, most_steps=10**4)
    assert schedule is not None
    assert simulate(graph, schedule).peak <= limit
    assert EvictingRun(problem).schedule(0, most_steps=20) is None
