"""A planned step is told of what its plan did not count: gradients, other calls."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import pebble
from pebble.runtime import build
from pebble.schedule import Schedule
from pebble.tracing import capture
from pebble.tracing.accumulation import accumulated
from tests.runtime.following import X, planned

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def tight(model: nn.Module, room: int = 0) -> pebble.Plan:
    """A plan whose budget has so much room above its peak."""
    least = pebble.optimize(model, X, budget_gb=1, solver="keep_all", optimizer=None).peak_bytes
    budget = least + room
    return pebble.optimize(model, X, budget_bytes=budget, solver="keep_all", optimizer=None)


def test_two_calls_before_a_backward_are_told_with_their_sum() -> None:
    model = mlp()
    plan = tight(model)
    module = plan.apply(model)
    with pytest.warns(pebble.BudgetNotKept, match="1 of its calls wait") as told:
        loss = module(X).sum() + module(X.clone()).sum()
        loss = loss + module(X).sum()
    kept = X.nbytes + 5 * 8 * 4  # the first call's input, and what tanh made of it
    assert f"{kept:,} bytes beside what was planned for one call ({plan.peak_bytes:,} bytes), " in (
        str(told[0].message)
    )
    assert f"{plan.peak_bytes + kept:,} bytes in all" in str(told[0].message)
    assert len(told) == 1
    loss.backward()


def test_two_calls_within_the_budget_are_not_told() -> None:
    model = mlp()
    module = tight(model, room=2000).apply(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (module(X).sum() + module(X.clone()).sum()).backward()
    assert pebble.status(module).planned_calls == 2


def test_calls_one_after_another_are_not_told() -> None:
    module = planned(mlp(), X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            loss = module(X).sum()
            loss.backward()
            module.zero_grad()
        del loss
        module(X)  # dropped: nothing of it is left
        module(X).sum().backward()


def test_gradients_that_are_there_already_are_told() -> None:
    module = planned(mlp(), X)
    module(X).sum().backward()
    module.zero_grad(set_to_none=False)
    held = sum(p.nbytes for p in module.parameters())
    with pytest.warns(pebble.BudgetNotKept, match=f"{held:,} bytes of gradients") as told:
        module(X).sum().backward()
        module(X).sum().backward()
    assert len(told) == 1


def test_a_sparse_gradient_that_is_there_is_no_hindrance() -> None:
    model = mlp()
    module = planned(model, X)
    weight = model[0].weight
    weight.grad = torch.zeros(weight.shape).to_sparse()
    with warnings.catch_warnings():
        warnings.simplefilter("error", pebble.PebbleWarning)
        module(X).sum().backward()
    assert pebble.status(module).planned_calls == 1


def test_a_plan_that_counts_them_says_nothing() -> None:
    model = mlp()
    captured = accumulated(capture(model, (X,)))
    module = build(model, captured, Schedule.keep_all(captured.graph))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            module(X).sum().backward()
