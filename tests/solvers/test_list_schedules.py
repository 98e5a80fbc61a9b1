"""Lean orders of every op once, and evicting runs along them."""

from __future__ import annotations

from pebble.problem import Problem
from pebble.referee import simulate
from pebble.solvers.edits.list_schedules import lean_schedules
from tests.graphs import budgets, rich_graph


def test_lean_orders_are_schedules_of_their_problem() -> None:
    for seed in range(20):
        problem = Problem(rich_graph(seed), budgets(rich_graph(seed))[-1])
        peaks = [simulate(problem, schedule).peak for schedule in lean_schedules(problem)]
        assert peaks
        assert min(peaks) >= problem.working_set_bound
