"""Collapsing: same cost, no higher peak, and the way back."""

from __future__ import annotations

import random

import pytest

from pebble.graph import Graph, Op, Phase, Value
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import solve
from pebble.solvers.collapse import collapse


def random_graph(seed: int) -> Graph:
    """Chains and joins of ops, some free, some pinned, some that run once."""
    rng = random.Random(seed)
    values, ops = [Value("outside", 9, external=True)], []
    for i in range(rng.randint(4, 30)):
        reads = {max(0, len(values) - 1 - rng.choice((0, 0, 0, 1, 5))) for _ in range(2)}
        makes = []
        for _ in range(rng.choice((1, 1, 2))):
            makes.append(len(values))
            pinned = rng.random() < 0.1
            values.append(Value(f"v{len(values)}", rng.randint(0, 20), pinned=pinned))
        cost, workspace = rng.choice((0, 0, 5)), rng.choice((0, 0, 7))
        once = rng.random() < 0.1
        reads_in_order = tuple(sorted(reads))
        ops.append(
            Op(f"o{i}", cost, reads_in_order, tuple(makes), workspace, recomputable=not once)
        )
    return Graph(ops, values)


@pytest.mark.parametrize("seed", range(60))
def test_the_way_back_costs_the_same_and_needs_no_more(seed: int) -> None:
    graph = random_graph(seed)
    peak = simulate(graph, Schedule.keep_all(graph)).peak
    collapsed = collapse(Problem(graph, peak))
    small = collapsed.problem.graph
    assert sorted(i for group in collapsed.members for i in group) == list(range(len(graph.ops)))
    schedules = [Schedule.keep_all(small)]
    found = solve(Problem(small, int(0.8 * peak)), "anneal", iterations=3_000).schedule
    schedules += [] if found is None else [found]
    for schedule in schedules:
        before, after = simulate(small, schedule), simulate(graph, collapsed.expand(schedule))
        assert before.cost == after.cost
        assert after.peak <= before.peak
        assert collapsed.shrink(collapsed.expand(schedule)) == schedule


def test_chains_shrink_and_boundaries_stay() -> None:
    phases = (Phase.FORWARD, Phase.FORWARD, Phase.BACKWARD, Phase.BACKWARD, Phase.BACKWARD)
    ops = [
        Op(f"o{i}", 1, (i - 1,) if i else (), (i,), phase=phase) for i, phase in enumerate(phases)
    ]
    graph = Graph(ops, [Value(f"v{i}", 3) for i in range(5)], boundary=2)
    collapsed = collapse(Problem(graph, 9))
    assert collapsed.members == ((0, 1), (2,), (3, 4))
    assert collapsed.problem.graph.boundary == 1
    assert simulate(collapsed.problem, (0, 1, 2)).peak == 9  # v2, v3 and v4: an upper bound


def test_the_working_set_never_outgrows_the_budget() -> None:
    for seed in range(60):
        graph = random_graph(seed)
        problem = Problem(graph, Problem(graph, 0).working_set_bound)
        assert collapse(problem).problem.working_set_bound <= problem.budget
