"""Explanations: what sets the peak, what each module pays, and what else would buy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.budget import proved_peak_lower_bound
from pebble.plan.plan import Plan

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


class Tower(nn.Module):
    """Layers that are alike, a head that LoRA knows by its name, and a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(80, 80), nn.GELU()) for _ in range(4))
        self.query = nn.Linear(80, 60)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        for layer in self.layers:
            x = layer(x)
        logits = self.query(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def planned(share: float = 0.4, **options: Any) -> Plan:
    inputs = {"x": torch.randn(64, 80), "labels": torch.randint(0, 60, (64,))}
    model = Tower()
    asked: dict[str, Any] = {"optimizer": "adamw", "check": False, "costs": "flops", **options}
    top = pebble.optimize(model, inputs, budget_gb=1, **asked)
    assert isinstance(top, Plan)
    least = proved_peak_lower_bound(top.footprint)
    budget = int(least + share * (top.peak_bytes - least))
    plan = pebble.optimize(model, inputs, budget_bytes=budget, time_limit=2, **asked)
    assert isinstance(plan, Plan)
    return plan


@pytest.fixture(scope="module")
def plan() -> Plan:
    torch.manual_seed(0)
    return planned()


def test_the_peak_and_the_modules(plan: Plan) -> None:
    told = pebble.explain(plan, time_limit=1)
    peak = told.peak
    assert peak.peak_bytes == plan.peak_bytes
    assert peak.op == plan.problem.graph.ops[plan.schedule.order[peak.step]].name
    assert "test_explanations.py" in peak.source or peak.phase == "optimizer step"
    shares = {share.group: share for share in told.shares}
    assert shares["layers.*.0"].modules == 4
    assert sum(share.saved_bytes for share in told.shares) == plan.figures.saved_bytes
    assert sum(share.unplanned_bytes for share in told.shares) == plan.unplanned.saved_bytes
    assert sum(share.again for share in told.shares) == sum(plan.recomputed.values()) > 0
    assert sum(share.again_ns for share in told.shares) == plan.trace.recomputed_cost


@pytest.mark.slow
def test_more_memory_costs_less_and_less_costs_more(plan: Plan) -> None:
    told = pebble.explain(plan, time_limit=3)
    assert told.more.budget_bytes > plan.budget_bytes > told.less.budget_bytes
    assert told.more.overhead is not None
    assert told.more.overhead <= plan.overhead
    assert told.less.overhead is None or told.less.overhead >= plan.overhead


@pytest.mark.slow
def test_other_ways_are_compared_within_the_same_budget(plan: Plan) -> None:
    told = pebble.explain(plan)
    names = " ".join(change.name for change in told.changes)
    for change in ("8-bit", "chunked_loss", "outputs='loss'", "micro-batch", "LoRA"):
        assert change in names
    states = next(change for change in told.changes if "8-bit" in change.name)
    parameters = sum(p.numel() for p in Tower().parameters())
    assert 3 * parameters < states.saved_bytes <= 8 * parameters
    assert states.overhead is not None
    assert states.overhead < plan.overhead


def test_the_text_is_what_is_shown(plan: Plan) -> None:
    told = plan.explain(time_limit=2)
    assert repr(told) == str(told) == told.text
    for words in ("The peak, ", "layers.*.0 (4)", "Memory is worth", "for each GB"):
        assert words in told.text


@pytest.mark.slow
def test_nothing_fits_below_the_floor() -> None:
    plan = planned(share=0.0)
    told = pebble.explain(plan, time_limit=1)
    assert told.less.overhead is None
    assert "nothing fits, which is proved" in told.text


def test_a_plan_from_a_file_leaves_out_what_needs_the_model(plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "plan.json")
    loaded = pebble.load_plan(tmp_path / "plan.json")
    assert isinstance(loaded, Plan)
    told = loaded.explain(time_limit=1)
    assert told.peak == pebble.explain(plan, time_limit=1).peak
    assert told.changes == ()
    assert "comes from a file" in told.text


@pytest.mark.slow
def test_the_model_is_as_it_was(plan: Plan) -> None:
    step = plan.step
    assert step is not None
    before = {name: p.clone() for name, p in step.model.named_parameters()}
    pebble.explain(plan)
    for name, parameter in step.model.named_parameters():
        assert parameter.requires_grad
        assert torch.equal(parameter, before[name])


def test_no_plan_is_refused() -> None:
    with pytest.raises(
        pebble.InvalidArgument, match=r"explain takes a Plan, not a str; pass what pebble\.optimize"
    ):
        pebble.explain("plan.json")  # type: ignore[arg-type]


def test_the_public_names_are_what_is_listed() -> None:
    assert dir(pebble) == sorted(pebble.__all__)
