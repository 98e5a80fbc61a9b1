"""A first plan trains at once; a better one takes its place between steps."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.problem import Problem
from pebble.runtime.follower import follower_of
from pebble.solver import Answer, solve

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")

ROWS, WIDTH = 256, 64


def stack() -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(4, WIDTH)]
    for _ in range(6):
        layers += [nn.Linear(WIDTH, WIDTH), nn.Tanh()]
    return nn.Sequential(*layers)


class Better:
    """A solver that answers with too lean a schedule, and waits for a word to do better."""

    def __init__(self) -> None:
        self.calls = 0
        self.may = threading.Event()

    def __call__(self, problem: Problem) -> Answer:
        self.calls += 1
        if self.calls == 1:
            return Answer(
                solve(replace(problem, budget=int(0.85 * problem.budget)), "greedy").schedule
            )
        self.may.wait(10)
        return Answer(solve(problem, "greedy").schedule)


def module(solver: Any, **options: Any) -> nn.Module:
    """Within a budget that asks for recomputation, but holds the inputs twice."""
    net = stack()
    whole = pebble.optimize(net, torch.ones(ROWS, 4), budget_gb=1, check=False, display=False)
    budget = int(0.85 * whole.baseline_peak_bytes)
    return pebble.budgeted(
        net, budget_bytes=budget, solver=solver, background=True, display=False, **options
    )


def step(net: nn.Module) -> list[torch.Tensor]:
    net.zero_grad()
    net(torch.ones(ROWS, 4)).sum().backward()
    return [p.grad for p in net.parameters() if p.grad is not None]


def test_a_better_plan_takes_the_place_of_the_first_between_steps() -> None:
    solver = Better()
    net = module(solver)
    first = step(net)
    follower: Any = follower_of(net)
    (before,) = follower.members
    assert step(net)  # it is still looked for
    assert list(follower.members) == [before]
    assert len(follower.planner.further) == 1
    solver.may.set()
    follower.planner.further.wait()
    again = step(net)
    (after,) = follower.members
    assert after is not before
    assert len(after.schedule.order) < len(before.schedule.order)
    assert all(map(torch.equal, first, again))
    assert len(follower.planner.further) == 0
    found = pebble.status(net)
    assert (found.planned_calls, found.plans_made, found.unplanned_calls) == (3, 2, 0)
    assert after.promise.peak_bytes is not None
    assert after.promise.peak_bytes <= follower.planner.asked.budget_bytes


def test_a_search_that_finds_nothing_better_changes_nothing() -> None:
    solver = Better()
    solver.calls = 1  # the greedy schedule both times
    solver.may.set()
    net = module(solver)
    step(net)
    follower: Any = follower_of(net)
    (before,) = follower.members
    follower.planner.further.wait()
    step(net)
    assert list(follower.members) == [before]
    assert pebble.status(net).plans_made == 1


def test_a_search_that_fails_leaves_the_first_plan(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Better):
        def __call__(self, problem: Problem) -> Answer:
            if self.calls:
                raise RuntimeError("out of ideas")
            return super().__call__(problem)

    net = module(Failing())
    step(net)
    follower: Any = follower_of(net)
    follower.planner.further.wait()
    step(net)
    assert pebble.status(net).planned_calls == 2
    assert "out of ideas" in caplog.text


def test_copies_begin_without_a_search() -> None:
    solver = Better()
    net = module(solver)
    step(net)
    solver.may.set()
    twin = copy.deepcopy(net)
    of_twin: Any = follower_of(twin)
    assert len(of_twin.planner.further) == 0
    assert step(twin)


def test_background_is_a_flag() -> None:
    with pytest.raises(pebble.InvalidArgument, match="background"):
        pebble.budgeted(stack(), budget_gb=1, background="yes")  # type: ignore[arg-type]
