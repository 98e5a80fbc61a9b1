"""The exact solver beside the search: what it hands over is judged like all else."""

from __future__ import annotations

import pytest

from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import FIXED_ORDER, Schedule
from pebble.solver import Answer
from pebble.solvers.annealing.search import Search
from pebble.solvers.portfolio import exact
from tests.graphs import keep_peak, transformer


def test_a_worse_schedule_of_the_exact_solver_never_replaces_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = transformer(1)
    problem = Problem(graph, keep_peak(graph))
    twice = Schedule((0, *range(len(graph.ops))))  # fits, and costs more than the bound it names
    stale = Answer(twice, graph.total_cost, FIXED_ORDER)
    monkeypatch.setattr(exact, "get_solver", lambda name: (name, lambda *args, **options: stale))
    search = Search(problem)
    answer = exact.ExactSearch(search).answer()
    assert answer.schedule is not None
    assert simulate(problem, answer.schedule).cost == graph.total_cost
