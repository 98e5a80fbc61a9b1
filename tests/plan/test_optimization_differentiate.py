"""Which outputs a plan differentiates: asked for, counted, saved and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import InvalidArgument, PlanFormatError
from pebble.record import StepRecord

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")
X = torch.randn(64, 32)
ASKED: dict[str, Any] = {"costs": "flops", "solver": "greedy", "optimizer": None}


class Classifier(nn.Module):
    """Computes its own loss, and returns wide logits beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(32, 32), nn.Linear(32, 512)

    def forward(self, x: torch.Tensor) -> Any:
        logits = self.head(self.inner(x).tanh())
        return {"loss": logits.square().mean(), "logits": logits}


class Autoencoder(nn.Module):
    """Picture, mean and spread as a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(32, 16), nn.Linear(8, 32)

    def forward(self, x: torch.Tensor) -> Any:
        mean, spread = self.encode(x).chunk(2, -1)
        return self.decode(mean + spread.exp()), mean, spread


def plan_of(model: nn.Module, **options: Any) -> pebble.Plan:
    return pebble.optimize(model, X, budget_gb=1, **ASKED | options)


def test_the_gradient_of_a_named_output_is_counted() -> None:
    alone, both = plan_of(Classifier()), plan_of(Classifier(), differentiate=["logits"])
    assert both.peak_bytes >= alone.peak_bytes + 64 * 512 * 4


@pytest.mark.parametrize("asked", [["logits"], "all"])
def test_a_saved_plan_knows_what_it_differentiates(asked: Any, tmp_path: Path) -> None:
    model = Classifier()
    plan_of(model, differentiate=asked).save(tmp_path / "plan.json")
    loaded = pebble.load_plan(tmp_path / "plan.json")
    output = loaded.apply(model)(X)
    (output["loss"] + output["logits"].exp().mean()).backward()
    found = model.head.weight.grad
    model.head.weight.grad = None
    output = model(X)
    (output["loss"] + output["logits"].exp().mean()).backward()
    torch.testing.assert_close(found, model.head.weight.grad)


def test_a_record_without_an_entry_has_the_default() -> None:
    assert StepRecord.from_json({}).differentiate is None
    assert StepRecord.from_json({"differentiate": ["a"]}).differentiate == ("a",)
    with pytest.raises(PlanFormatError):
        StepRecord.from_json({"differentiate": "logits"})


@pytest.mark.parametrize("wrong", ["logits", [], [1], 3])
def test_what_is_no_choice_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"such as \['logits'\]"):
        plan_of(Classifier(), differentiate=wrong)


@pytest.mark.parametrize("model", [Autoencoder(), Classifier()])
def test_several_roots_keep_what_was_predicted(model: nn.Module) -> None:
    plan = plan_of(model, differentiate="all")
    tight = pebble.optimize(model, X, budget_bytes=plan.peak_bytes, differentiate="all", **ASKED)
    found = tight.validate(model)
    assert found.gradients_equal and found.measured_peak_bytes <= tight.peak_bytes
    assert found.eager_difference is not None and found.eager_difference <= found.tolerance
