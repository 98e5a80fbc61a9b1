"""The budget in one place: what is resident, what is left, what fits, and which peaks are known."""

from __future__ import annotations

import numpy as np
import pytest

from pebble.budget import (
    Footprint,
    Resident,
    least_known_peak,
    live_kinds,
    proved_peak_lower_bound,
    whole_budget,
)
from pebble.errors import InvalidArgument
from pebble.referee import simulate
from pebble.schedule import Schedule
from tests.graphs import random_training_graph

KEPT = Resident({"parameters": 100, "optimizer state": 200, "inputs": 7})


@pytest.fixture
def step() -> Footprint:
    return Footprint(random_training_graph(3), KEPT)


@pytest.mark.parametrize("given", [np.float32(2.5), np.int64(2_500_000_000), 2.5])
def test_numbers_of_any_kind_are_budgets(given: float) -> None:
    if isinstance(given, np.integer):
        assert whole_budget(None, given) == 2_500_000_000
    else:
        assert whole_budget(given, None) == 2_500_000_000


@pytest.mark.parametrize("given", [True, "15", float("inf"), 0.999, -1, None])
def test_what_is_no_size_is_refused(given: object) -> None:
    with pytest.raises(InvalidArgument):
        whole_budget(None, given)  # type: ignore[arg-type]


def test_one_kind_changes_the_optimizer_s_step_as_well() -> None:
    there = Resident(KEPT.kinds, 1000)
    assert there.with_kind("inputs", 10).optimizer_step_peak == 1003
    assert KEPT.with_kind("inputs", 10) == Resident({**KEPT.kinds, "inputs": 10}, 0)
    assert there.without_optimizer() == Resident({"parameters": 100, "inputs": 7}, 0)


def test_a_budget_admits_a_step_only_with_its_optimizer_s_step() -> None:
    assert KEPT.admits(307)
    assert not KEPT.admits(306)
    assert not Resident(KEPT.kinds, 400).admits(399)


def test_what_is_left_for_the_graph_is_never_negative(step: Footprint) -> None:
    assert step.problem(307 + 41).budget == 41
    assert step.problem(1).budget == 0


def test_peaks_are_those_of_the_referee(step: Footprint) -> None:
    keep = Schedule.keep_all(step.graph)
    trace = simulate(step.graph, keep)
    assert step.peak(keep) == step.unplanned_peak == 307 + trace.peak
    assert step.fits(keep, 307 + trace.peak)
    assert not step.fits(keep, 306 + trace.peak)
    assert step.unplanned.cost == step.graph.total_cost
    assert sum(step.kinds_at_peak(trace).values()) == step.unplanned_peak


def test_the_optimizer_s_step_can_be_the_peak(step: Footprint) -> None:
    trace = step.unplanned_trace
    heavy = Footprint(step.graph, Resident(KEPT.kinds, 10**6))
    assert heavy.in_optimizer_step(trace)
    assert heavy.unplanned_peak == heavy.peak_lower_bound == 10**6
    assert sum(heavy.kinds_at_peak(trace).values()) == 10**6
    assert not step.in_optimizer_step(trace)


def test_known_and_proved_peaks_are_in_order(step: Footprint) -> None:
    least = least_known_peak(step, time_limit=2.0)
    assert step.peak(least.schedule) == least.peak_bytes
    proved = proved_peak_lower_bound(step)
    assert step.peak_lower_bound <= proved <= least.peak_bytes <= step.unplanned_peak
    again = least_known_peak(step, time_limit=2.0, start=least.schedule)
    assert again.peak_bytes <= least.peak_bytes


def test_the_graph_s_kinds_are_always_the_same_four() -> None:
    graph = random_training_graph(3)
    kinds = live_kinds(graph, simulate(graph, Schedule.keep_all(graph)))
    assert set(kinds) == {"activations", "gradients", "outputs", "workspace"}
