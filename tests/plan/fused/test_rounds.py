"""Rounds: the measured peak decides, at most three times, and never above the budget."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pebble.budget import Footprint, Resident
from pebble.errors import InfeasibleBudget
from pebble.graph import Graph, Op, Phase, Value
from pebble.plan.fused.rounds import FULL_ENOUGH, MOST_ROUNDS, plan_in_rounds
from pebble.schedule import Schedule

N = 20


def ladder() -> Footprint:
    """Twenty values of 100 bytes that are read in reverse, each cheap to make again."""
    ops = [Op(f"f{i}", 10, (i - 1,) if i else (), (i,)) for i in range(N)]
    ops += [
        Op(f"b{i}", 10, (i, N + N - 2 - i) if i < N - 1 else (i,), (N + N - 1 - i,),
           phase=Phase.BACKWARD)
        for i in reversed(range(N))
    ]  # fmt: skip
    values = [Value(f"v{i}", 100) for i in range(N)] + [Value(f"g{i}", 1) for i in range(N)]
    return Footprint(Graph(ops, values), Resident({"parameters": 500}))


def planner(step: Footprint) -> Callable[[int], Schedule]:
    """Runs again as many of the first values as the budget asks for."""
    kept = list(range(2 * N))

    def plan(budget: int) -> Schedule:
        best = Schedule(tuple(kept))
        for again in range(1, N - 2):
            if step.peak(best) <= budget:
                break
            order = list(range(N))
            for i in reversed(range(N)):
                order += [k for k in range(again) if k <= i] if i < again else []
                order.append(2 * N - 1 - i)
            best = Schedule(tuple(order))
        return best

    return plan


def measured(step: Footprint, factor: float) -> Callable[[Schedule], tuple[Schedule, int]]:
    return lambda schedule: (schedule, int(factor * step.peak(schedule)))


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.15])
def test_the_measured_peak_is_within_the_budget_and_fills_it(factor: float) -> None:
    step = ladder()
    budget = int(0.8 * factor * step.unplanned_peak)
    made, report = plan_in_rounds(step, budget, planner(step), measured(step, factor))
    assert len(report.rounds) <= MOST_ROUNDS
    assert FULL_ENOUGH * budget <= report.measured_bytes <= budget
    assert report.measured_bytes == int(factor * step.peak(made))
    assert f"round {report.chosen + 1} of {len(report.rounds)}" in str(report)


def test_one_round_is_enough_where_nothing_runs_again() -> None:
    step = ladder()
    _, report = plan_in_rounds(step, 10**6, planner(step), measured(step, 1.0))
    assert len(report.rounds) == 1
    assert report.recomputed == 0


def test_a_measured_peak_above_the_budget_is_refused_with_its_figures() -> None:
    step = ladder()
    budget = step.unplanned_peak // 2
    with pytest.raises(InfeasibleBudget, match="the least measured peak is") as caught:
        plan_in_rounds(step, budget, planner(step), lambda schedule: (None, 10 * budget))
    assert caught.value.least_bytes == 10 * budget
    assert caught.value.budget_bytes == budget
