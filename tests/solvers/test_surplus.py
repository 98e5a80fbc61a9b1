"""Recomputations that do not lower the peak are left out."""

from __future__ import annotations

import pytest

from pebble.problem import Problem
from pebble.referee import simulate
from pebble.solvers.edits.recompute_once import RecomputeOnce
from pebble.solvers.edits.surplus import trimmed
from tests.graphs import residual_net


@pytest.mark.parametrize("seed", range(5))
def test_trimming_costs_less_and_takes_no_more_at_the_old_peak(seed: int) -> None:
    graph = residual_net(8, seed)
    problem = Problem(graph, 0)
    schedule = RecomputeOnce(graph).schedule(problem.may_repeat.tolist())
    trace = simulate(problem, schedule)
    variants = list(trimmed(problem, schedule, trace, 3))
    assert variants
    costs = [trace.cost, *(simulate(problem, variant).cost for variant in variants)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]
    assert simulate(problem, variants[0]).peak <= trace.peak
