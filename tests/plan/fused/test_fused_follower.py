"""Planned modules that run compiled: what they refuse, and what they tell."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import InvalidArgument


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 128), nn.GELU(), nn.Linear(128, 32))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"outputs": "loss"}, "outputs='loss'"),
        ({"accumulation_steps": 2}, "accumulation_steps=2"),
        ({"calls_in_flight": 2}, "calls_in_flight=2"),
        ({"loss": torch.sum}, "loss="),
    ],
)
def test_what_a_compiled_step_does_not_do_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        pebble.budgeted(net(), budget_gb=1, execution="inductor", **options)


def test_an_unknown_execution_is_refused() -> None:
    x = torch.randn(8, 32)
    model = net()
    with pytest.raises(InvalidArgument, match="'ops', 'inductor'"):
        pebble.budgeted(model, budget_gb=1, execution="eager")
    plan = pebble.optimize(model, x, budget_gb=1, time_limit=1)
    with pytest.raises(InvalidArgument, match="'ops', 'inductor'"):
        plan.apply(model, execution="triton")


@pytest.mark.slow
def test_a_plan_applied_with_inductor_trains_evaluates_and_reports() -> None:
    torch._dynamo.reset()
    x, model = torch.randn(64, 32), net()
    twin = copy.deepcopy(model)
    plan = pebble.optimize(model, x, budget_gb=1, optimizer="sgd", time_limit=1)
    planned = plan.apply(model, execution="inductor")
    for step in (planned, twin):
        step(x).square().mean().backward()
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6)
    assert torch.equal(planned.eval()(x), twin.eval()(x))
    status = pebble.status(planned)
    assert (status.planned_calls, status.evaluation_calls, status.plans_made) == (1, 1, 1)
    assert "round 1 of 1" in str(status)
    assert status.predicted_peak_bytes <= 10**9
