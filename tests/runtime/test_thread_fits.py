"""Another number of threads than planned: weighed again, kept to, or planned for."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.measure.allocator import trace_memory
from pebble.runtime.thread_fits import threads_held

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")

MORE = 4


def picture(batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, 16, 16)


def norms() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm(14))


def waves() -> nn.Module:
    """What stands before its convolutions can be made again."""
    return nn.Sequential(
        nn.Linear(16, 16), nn.Tanh(), nn.Sigmoid(), nn.Tanh(),
        nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1),
    )  # fmt: skip


def loss(output: torch.Tensor) -> Any:
    return output.square().mean()


def plan_of(model: nn.Module, x: torch.Tensor, budget: int = 10**9) -> pebble.Plan:
    more: dict[str, Any] = {"optimizer": None, "costs": "flops", "loss": loss, "check": False}
    plan = pebble.optimize(model, x, budget_bytes=budget, solver="keep_all", **more)
    assert isinstance(plan, pebble.Plan)
    return plan


def peaks(model: nn.Module, x: torch.Tensor) -> tuple[int, int]:
    """Of everything kept, with one thread and with more."""
    one = plan_of(model, x).peak_bytes
    with threads_held(MORE):
        several = plan_of(model, x).peak_bytes
    if several <= one:
        pytest.skip("these kernels take no more room with more threads")
    return one, several


def measured(planned: nn.Module, plan: pebble.Plan, x: torch.Tensor) -> int:
    """The peak of a step, gradients beginning from none."""

    def step() -> None:
        output = planned(x)  # held to the end, as a plan counts it
        loss(output).backward()

    planned.zero_grad(set_to_none=True)
    return plan.resident.total + trace_memory(step).peak


def gradients(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad(set_to_none=True)
    loss(model(x)).backward()
    return [p.grad for p in model.parameters() if p.grad is not None]


def test_where_the_budget_holds_it_the_prediction_is_replaced() -> None:
    model, x = norms(), picture(2)
    one, several = peaks(model, x)
    plan = plan_of(model, x)
    planned, eager = plan.apply(model), copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pebble.PebbleWarning)
        with threads_held(MORE):
            assert all(map(torch.equal, gradients(planned, x), gradients(eager, x)))
            assert pebble.status(planned).predicted_peak_bytes == several
            assert measured(planned, plan, x) == several
        gradients(planned, x)
    assert pebble.status(planned).predicted_peak_bytes == one


def test_where_it_does_not_the_kernels_keep_to_the_threads_of_the_plan() -> None:
    model, x = norms(), picture(2)
    one, several = peaks(model, x)
    plan = plan_of(model, x, budget=one)
    planned, eager = plan.apply(model), copy.deepcopy(model)
    wanted = gradients(eager, x)
    figures = rf"{several:,} bytes of {one:,}\): its kernels keep to 1"
    with threads_held(MORE), pytest.warns(pebble.PebbleWarning, match=figures) as told:
        assert all(map(torch.equal, gradients(planned, x), wanted))
        assert measured(planned, plan, x) == one
        assert torch.get_num_threads() == MORE
    assert len(told) == 1
    assert pebble.status(planned).in_effect


@pytest.mark.slow
def test_a_module_that_plans_by_itself_plans_for_the_threads() -> None:
    model, x = waves(), picture(8)
    one, _ = peaks(model, x)
    planned = plan_of(model, x, budget=one).apply(model, on_mismatch="replan")
    loss(planned(x)).backward()
    with warnings.catch_warnings(), threads_held(MORE):
        warnings.simplefilter("error", pebble.PebbleWarning)
        for _ in range(2):
            assert all(map(torch.equal, gradients(planned, x), gradients(copy.deepcopy(model), x)))
    status = pebble.status(planned)
    assert (status.members, status.plans_made) == (2, 1)
    assert status.predicted_peak_bytes is not None
    assert status.predicted_peak_bytes <= one


def test_a_module_that_finds_no_plan_for_the_threads_looks_once() -> None:
    model, x = norms(), picture(2)
    one, _ = peaks(model, x)
    planned = plan_of(model, x, budget=one).apply(model, on_mismatch="replan")
    with threads_held(MORE), pytest.warns(pebble.PebbleWarning, match="kernels keep to 1"):
        for _ in range(2):
            gradients(planned, x)
    assert pebble.status(planned).members == 1
    assert pebble.status(planned).planned_calls == 2


def test_a_step_that_cannot_be_weighed_again_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise pebble.CaptureError("not now")

    model, x = norms(), picture(2)
    planned = plan_of(model, x).apply(model)
    monkeypatch.setattr("pebble.tracing.step_form.capture", refuse)
    match = r"planned with 1 threads and runs with 4: the temporaries .* were not counted\. Plan"
    with threads_held(MORE), pytest.warns(pebble.BudgetNotKept, match=match):
        gradients(planned, x)
