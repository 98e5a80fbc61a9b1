"""A module-level plan keeps its budget and the model's numbers, and leaves the model as it was."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import nn

import pebble
from pebble.plan.module_plan import ModulePlan
from tests.plan.ungraphed import Averages, EarlyExit, Residual, example, loss


def planned_at(model: nn.Module, share: float) -> ModulePlan:
    """A plan within a share of what the un-planned step holds beyond what is resident."""
    asked = {"loss": loss, "optimizer": None, "level": "module"}
    whole = pebble.optimize(model, example(), budget_gb=1, **asked)
    assert isinstance(whole, ModulePlan)
    assert whole.chosen == ()
    assert whole.peak_bytes == whole.baseline_peak_bytes
    room = whole.baseline_peak_bytes - whole.resident.total
    budget = int(whole.resident.total + share * room)
    plan = pebble.optimize(model, example(), budget_bytes=budget, **asked)
    assert isinstance(plan, ModulePlan)
    return plan


def trained(module: nn.Module) -> list[torch.Tensor]:
    torch.manual_seed(5)
    steps = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(2):
        steps.zero_grad()
        loss(module(example())).backward()
        steps.step()
    return [t.detach().clone() for t in (*module.parameters(), *module.buffers())]


@pytest.mark.slow
def test_it_fits_and_trains_as_eager_does() -> None:
    model = EarlyExit()
    twin = copy.deepcopy(model)
    plan = planned_at(model, 0.6)
    assert 0 < len(plan.chosen) < 4
    assert plan.peak_bytes <= plan.budget_bytes < plan.baseline_peak_bytes
    report = plan.validate(repeats=1)
    assert report.ok
    assert report.measured_peak_bytes == plan.peak_bytes
    assert report.eager_peak_bytes == plan.baseline_peak_bytes
    module = plan.apply(model)
    assert all(map(torch.equal, trained(module), trained(twin)))
    assert pebble.status(module).planned_calls == 2


def test_planning_leaves_everything_as_it_was() -> None:
    model = EarlyExit().eval()
    model.layers[0].inner[0].weight.grad = torch.ones(64, 16)
    state = {name: t.clone() for name, t in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    torch.manual_seed(1)
    random.seed(1)
    draws = torch.get_rng_state(), random.getstate()
    with pytest.warns(pebble.PlanNotInEffect, match="evaluation mode"):
        plan = pebble.optimize(model, example(), budget_gb=1, loss=loss, level="module")
    assert plan.level == "module"
    assert torch.equal(draws[0], torch.get_rng_state())
    assert draws[1] == random.getstate()
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert [p.grad is None for p in model.parameters()].count(False) == 1
    assert bool((model.layers[0].inner[0].weight.grad == 1).all())


@pytest.mark.slow
def test_blocks_that_write_state_are_left_out_and_named() -> None:
    model = EarlyExit([Residual(), Averages(), Residual(), Residual()])
    plan = planned_at(model, 0.75)
    assert "layers.1" in plan.left_out
    assert "writes to a tensor" in plan.left_out["layers.1"]
    assert "layers.1" not in plan.recomputed
    assert "layers.1 writes to" in str(plan)
    assert plan.validate(repeats=1).ok


@pytest.mark.slow
def test_a_budget_that_nothing_fits_names_the_least() -> None:
    model = EarlyExit()
    asked = {"loss": loss, "optimizer": None, "level": "module"}
    with pytest.raises(pebble.InfeasibleBudget, match="budget_gb=") as caught:
        pebble.optimize(model, example(), budget_bytes=100_000, **asked)
    least = caught.value.least_bytes
    assert least is not None
    plan = pebble.optimize(model, example(), budget_bytes=least, **asked)
    assert plan.peak_bytes <= least


@pytest.mark.slow
def test_gradients_so_far_count_where_they_are_accumulated() -> None:
    asked = {"budget_gb": 1, "loss": loss, "optimizer": None, "level": "module"}
    once = pebble.optimize(EarlyExit(), example(), **asked)
    more = pebble.optimize(EarlyExit(), example(), accumulation_steps=2, **asked)
    held = sum(p.nbytes for p in EarlyExit().parameters())
    assert more.resident.kinds["accumulated gradients"] == held
    assert more.peak_bytes > once.peak_bytes


def test_a_step_that_never_repeats_itself_is_refused() -> None:
    class Clock(EarlyExit):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            noise = random.SystemRandom().random()
            return super().forward(x) * (1 + noise)

    with pytest.raises(pebble.CaptureError, match="same numbers twice"):
        pebble.optimize(Clock(), example(), budget_gb=1, loss=loss, level="module")


@pytest.mark.slow
def test_a_second_derivative_is_planned() -> None:
    class Penalised(EarlyExit):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.clone().requires_grad_()
            (slope,) = torch.autograd.grad(super().forward(x).sum(), x, create_graph=True)
            return slope

    model = Penalised()
    plan = planned_at(model, 0.95)
    assert plan.chosen
    assert plan.validate(repeats=1).ok
