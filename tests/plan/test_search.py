"""The search for a schedule: one deadline for a whole call, and what fits is never refused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble import deadline
from pebble.budget import Footprint, Resident
from pebble.deadline import QUICK_SECONDS, Deadline
from pebble.measure.step import Step, trace_step
from pebble.options import SearchOptions
from pebble.plan.optimization import plan_step
from pebble.plan.search import PlanSearch
from pebble.solver import Answer, unregister


def net() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(32, 32), nn.GELU()) for _ in range(6)]
    return nn.Sequential(*layers), torch.randn(64, 32)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that pass only where a test says so."""
    now = [100.0]
    monkeypatch.setattr(Deadline.__init__, "__defaults__", (lambda: now[0],))
    return now


@pytest.fixture
def asked(clock: list[float]) -> Iterator[list[float]]:
    """The time limits that a solver was given which takes all its time and finds nothing."""
    limits: list[float] = []

    @pebble.register("idle-for-all-its-time")
    def idle(problem: pebble.Problem, *, time_limit: float) -> Answer:
        limits.append(time_limit)
        clock[0] += time_limit
        return Answer(None)

    yield limits
    unregister("idle-for-all-its-time")


@pytest.fixture
def slow_trace(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes tracing take so many seconds."""
    from pebble.measure import step as module

    honest = module.trace

    def take(seconds: float) -> None:
        def trace(*args: Any) -> Step:
            clock[0] += seconds
            return honest(*args)

        monkeypatch.setattr(module, "trace", trace)

    return take


def test_tracing_and_all_solving_share_one_time_limit(
    clock: list[float], asked: list[float], slow_trace: Callable[[float], None]
) -> None:
    slow_trace(7.0)
    model, x = net()
    step = trace_step(model, x, optimizer=None)
    budget = step.footprint.peak_lower_bound  # quick solvers have nothing for it
    with pytest.raises(pebble.InfeasibleBudget):
        pebble.optimize(
            model, x, budget_bytes=budget - 1, optimizer=None, solver="idle-for-all-its-time"
        )
    limits = {}
    real = pebble.budget.least_known_peak

    def least(footprint: Footprint, **options: Any) -> Any:
        limits["least"] = options["time_limit"]
        return real(footprint, **options | {"time_limit": 2.0})

    began = clock[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pebble.plan.search.least_known_peak", least)
        with pytest.raises(pebble.InfeasibleBudget):
            pebble.optimize(
                model, x, budget_bytes=budget, optimizer=None, time_limit=27.0,
                solver="idle-for-all-its-time",
            )  # fmt: skip
    assert asked == [pytest.approx(0.6 * 20.0)]
    assert limits["least"] == pytest.approx(0.4 * 20.0)
    assert clock[0] - began + limits["least"] == pytest.approx(27.0)


@pytest.mark.parametrize(("below", "seconds"), [(0, 27.0), (1, 5.0)])
def test_a_budget_below_every_schedule_is_refused_soon(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, below: int, seconds: float
) -> None:
    footprint = trace_step(*net(), optimizer=None).footprint
    given = []
    honest = pebble.budget.least_known_peak

    def least(step: Footprint, **how: Any) -> Any:
        given.append(how["time_limit"])
        return honest(step, **how | {"time_limit": 0.1})

    monkeypatch.setattr("pebble.plan.search.least_known_peak", least)
    search = SearchOptions("auto", 27.0, 0, False)
    PlanSearch(footprint.peak_lower_bound - below, search, Deadline(27.0)).least(footprint)
    assert given == [pytest.approx(seconds)]


def test_a_quick_plan_follows_where_tracing_alone_takes_longer(
    asked: list[float], slow_trace: Callable[[float], None]
) -> None:
    slow_trace(50.0)
    model, x = net()
    plan = pebble.optimize(
        model, x, budget_gb=1, optimizer=None, time_limit=10.0, solver="idle-for-all-its-time"
    )
    assert asked == [QUICK_SECONDS]
    assert plan.peak_bytes <= plan.budget_bytes


def test_what_fits_is_returned_whoever_was_asked(caplog: pytest.LogCaptureFixture) -> None:
    step = trace_step(*net(), optimizer=None)
    least = pebble.budget.least_known_peak(step.footprint, time_limit=5.0)
    assert least.peak_bytes < step.footprint.unplanned_peak
    for budget in (least.peak_bytes, (least.peak_bytes + step.footprint.unplanned_peak) // 2):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "pebble"):
            plan = plan_step(step, budget, solver="keep_all", time_limit=20.0)
        assert plan.peak_bytes <= budget
        assert plan.solver != "keep_all"
        assert "Solver 'keep_all' found no plan within" in caplog.text


def test_nothing_is_solved_where_the_optimizer_s_step_alone_is_too_large() -> None:
    step = trace_step(*net(), optimizer="adamw")
    resident = Resident(step.resident.kinds, 10 * step.footprint.unplanned_peak)

    def never(problem: pebble.Problem) -> Answer:
        raise AssertionError("asked although nothing can fit")

    search = PlanSearch(step.footprint.unplanned_peak, SearchOptions(never), Deadline(1.0))
    assert search.find(Footprint(step.graph, resident)) is None
    assert search.find(Footprint(step.graph, Resident({"parameters": 10**12}))) is None


def test_shares_of_a_deadline_add_up_and_never_vanish(clock: list[float]) -> None:
    end = deadline.Deadline(10.0)
    assert end.share(0.6) == pytest.approx(6.0)
    clock[0] += 6.0
    assert (end.left, end.share()) == (pytest.approx(4.0), pytest.approx(4.0))
    clock[0] += 20.0
    assert (end.left, end.share()) == (0.0, QUICK_SECONDS)
