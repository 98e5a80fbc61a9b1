"""Fitting a schedule into a budget, and filling the budget up again."""

from __future__ import annotations

import pytest

from pebble.graph import Graph, Op
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import get_solver
from pebble.solvers.edits.repair import Repair
from pebble.solvers.edits.retention import filled
from tests.graphs import keep_peak, skipping_graph

SEEDS = range(12)


def random_problem(seed: int, percent: int) -> Problem:
    """Sixty ops that read one or two of the last twelve results, and one of all."""
    graph = skipping_graph(seed, 60)
    return Problem(graph, keep_peak(graph) * percent // 100)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_repaired_schedule_fits_and_a_filled_one_still_does(seed: int) -> None:
    problem = random_problem(seed, 85)
    schedule = Repair(problem).fit(Schedule.keep_all(problem.graph))
    assert schedule is not None
    trace = simulate(problem, schedule)
    assert trace.peak <= problem.budget
    assert trace.recomputed_cost > 0
    full = simulate(problem, filled(problem, schedule, trace))
    assert full.peak <= problem.budget
    assert full.cost <= trace.cost


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("percent", [70, 85, 100])
def test_filling_never_leaves_the_budget(seed: int, percent: int) -> None:
    problem = random_problem(seed, percent)
    lean = get_solver("recompute_all")[1](problem).schedule
    assert lean is not None
    before = simulate(problem, lean)
    if before.peak <= problem.budget:
        after = simulate(problem, filled(problem, lean))
        assert after.peak <= problem.budget
        assert after.cost < before.cost


def test_with_room_for_all_nothing_is_computed_again() -> None:
    problem = random_problem(0, 300)
    n = len(problem.graph.ops)
    twice = Schedule((*range(n // 2), *range(n)))
    assert filled(problem, twice).order == tuple(range(n))


@pytest.mark.slow
def test_priced_repairs_where_recomputing_once_does_not_fit() -> None:
    fitting = 0
    for seed in SEEDS:
        problem = random_problem(seed, 75)
        schedule = get_solver("priced")[1](problem).schedule
        assert schedule is not None
        fitting += simulate(problem, schedule).peak <= problem.budget
    assert fitting >= 10  # one without repairs


def test_what_may_run_only_once_stays() -> None:
    problem = random_problem(3, 85)
    graph = problem.graph
    once = Graph(
        [Op(o.name, o.cost, o.inputs, o.outputs, o.workspace, o.phase, i % 3 > 0)
         for i, o in enumerate(graph.ops)],
        graph.values,
    )  # fmt: skip
    schedule = Repair(Problem(once, problem.budget)).fit(Schedule.keep_all(once))
    if schedule is not None:
        executions = schedule.executions(len(once.ops))
        assert all(executions[i] == 1 for i, op in enumerate(once.ops) if not op.recomputable)
