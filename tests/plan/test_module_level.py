"""When a step is planned module by module, and when it is refused."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.plan.module_plan import ModulePlan
from pebble.plan.plan import Plan
from tests.plan.ungraphed import EarlyExit, example, loss


def test_a_model_with_a_graph_is_planned_on_it_unless_modules_are_asked_for() -> None:
    model = nn.Linear(16, 2)
    assert isinstance(pebble.optimize(model, example(), budget_gb=1), Plan)
    plan = pebble.optimize(model, example(), budget_gb=1, level="module")
    assert isinstance(plan, ModulePlan)
    assert "was asked for" in plan.reason


def test_a_model_without_one_says_so_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "pebble"):
        plan = pebble.optimize(EarlyExit(), example(), budget_gb=1, loss=loss)
    assert isinstance(plan, ModulePlan)
    (line,) = [r.getMessage() for r in caplog.records if "module by module" in r.getMessage()]
    assert plan.reason in line
    assert "The forward of EarlyExit" in line


def test_the_graph_alone_is_refused_and_advises_the_other_level() -> None:
    with pytest.raises(pebble.CaptureError, match="level='module'"):
        pebble.optimize(EarlyExit(), example(), budget_gb=1, level="graph")


@pytest.mark.parametrize(
    "asked",
    [{"outputs": "loss"}, {"chunked_loss": 4}, {"solver": "ilp"}, {"costs": "flops"}],
    ids=lambda asked: next(iter(asked)),
)
def test_what_only_a_graph_can_have_keeps_the_refusal(asked: dict[str, Any]) -> None:
    with pytest.raises(pebble.CaptureError):
        pebble.optimize(EarlyExit(), example(), budget_gb=1, **asked)
    with pytest.raises(pebble.InvalidArgument, match=next(iter(asked))):
        pebble.optimize(EarlyExit(), example(), budget_gb=1, level="module", **asked)


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(pebble.InvalidArgument, match="level"):
        pebble.optimize(nn.Linear(16, 2), example(), budget_gb=1, level="block")


class Wrong(EarlyExit):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > -1e9:
            raise KeyError("no such thing")
        return super().forward(x)


@pytest.mark.parametrize("level", ["auto", "graph"])
def test_an_error_of_the_forward_stays_the_refusal(level: str) -> None:
    with pytest.raises(pebble.CaptureError, match="Wrong cannot be traced|depends on data"):
        pebble.optimize(Wrong(), example(), budget_gb=1, level=level)


def test_an_error_of_the_forward_is_told_where_modules_are_asked_for() -> None:
    with pytest.raises(pebble.CaptureError, match="does not run on these inputs.*no such thing"):
        pebble.optimize(Wrong(), example(), budget_gb=1, level="module")


def test_fake_tensors_cannot_be_run() -> None:
    with torch._subclasses.FakeTensorMode():
        model, x = EarlyExit(), torch.randn(4, 16)
    with pytest.raises(pebble.InvalidArgument, match="fake tensors"):
        pebble.optimize(model, x, budget_gb=1, level="module")
    with pytest.raises(pebble.CaptureError):
        pebble.optimize(model, x, budget_gb=1)
