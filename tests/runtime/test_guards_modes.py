"""A planned module in training and evaluation mode, without autograd, and under autocast."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pebble.errors import PlanMismatch
from tests.runtime.following import Net, X, Y, equal, grads, planned

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def test_no_grad_inference_mode_and_eval_run_the_model_itself() -> None:
    module = planned(Net(p=0.5), X, Y)
    with torch.no_grad():
        assert not module(X, Y)["loss"].requires_grad
    with torch.inference_mode():
        assert not module(X, Y)["loss"].requires_grad
    module.eval()
    assert not module.head.training
    assert torch.equal(module(X), module(X)), "no dropout in evaluation mode"
    assert module(X[:2]).shape == (2, 3), "any shape in evaluation mode"
    assert module(X).requires_grad
    module.train()
    assert module(X, Y)["loss"].requires_grad


def test_a_submodule_in_another_mode_is_a_mismatch() -> None:
    module = planned(Net(), X, Y)
    module.inner[1].eval()
    with pytest.raises(PlanMismatch, match=r"inner\.1.*training.*evaluation"):
        module(X, Y)


def test_a_model_planned_in_evaluation_mode_follows_its_plan_there() -> None:
    model = Net(p=0.5).eval()
    module = planned(model, X, Y)
    out = module(X, Y)
    assert "Cut" in type(out["logits"].grad_fn).__name__, "by the plan"
    out["loss"].backward()
    assert int(model.inner[1].num_batches_tracked) == 0


def test_ambient_autocast_is_a_mismatch_and_does_not_leak() -> None:
    module = planned(Net(), X, Y)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(PlanMismatch, match="Autocast"):
        module(X, Y)
    output = module(X, Y)
    with torch.autocast("cpu", torch.bfloat16):
        output["loss"].backward()
    assert module.head.weight.grad.dtype is torch.float32
    model = Net()
    module = planned(model, X, Y)
    module(X, Y)["loss"].backward()
    expected = grads(model)
    model.zero_grad()
    output = module(X, Y)
    with torch.autocast("cpu", torch.bfloat16):
        output["loss"].backward()
    assert equal(expected, grads(model))


def test_autocast_that_was_on_at_planning() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        module = planned(model, X)
        out = module(X)
        assert out.dtype is torch.bfloat16
        out.float().sum().backward()
        found = grads(model)
        model.zero_grad()
        model(X).float().sum().backward()
    assert equal(found, grads(model))
    with pytest.raises(PlanMismatch, match=r"was on .*bfloat16.*, but is off"):
        module(X)
