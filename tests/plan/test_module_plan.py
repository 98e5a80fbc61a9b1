"""A module-level plan in a file and on paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import pebble
from pebble.plan.module_plan import ModulePlan
from tests.plan.ungraphed import EarlyExit, example, loss


@pytest.fixture(scope="module")
def plan() -> ModulePlan:
    torch.manual_seed(0)
    made = pebble.optimize(
        EarlyExit(), example(), budget_bytes=190_000, loss=loss, optimizer="sgd", level="module"
    )
    assert isinstance(made, ModulePlan)
    assert made.chosen
    return made


def test_it_says_what_it_does(plan: ModulePlan) -> None:
    text = str(plan)
    assert text.startswith("Module-level plan for EarlyExit within 190.00 kB")
    assert "peak predicted within" in text
    assert "Run again in the backward: layers." in text
    assert plan.memory["parameters"] == plan.resident.kinds["parameters"]
    assert sum(plan.memory.values()) == plan.peak_bytes
    assert "<table>" in plan._repr_html_()


def test_it_explains_itself(plan: ModulePlan) -> None:
    told = plan.explain()
    assert told.peak_bytes == plan.peak_bytes
    assert sum(share.again for share in told.shares) == len(plan.chosen) > 0
    assert sum(share.calls for share in told.shares) == len(plan.calls)
    assert sum(share.again_ns for share in told.shares) == plan.cost - plan.step_ns
    weights = {weight.at: weight.saved_bytes for weight in plan.calls}
    held = sum(share.held_bytes + share.freed_bytes for share in told.shares)
    assert held == sum(weights.values())
    assert told.dearest is not None
    assert told.dearest.at in plan.chosen
    assert told.next is None or told.next.at not in plan.chosen
    text = str(pebble.explain(plan))
    assert text == repr(told)
    for share in told.shares:
        assert share.block in text
    assert "need not run again" in text


def test_a_prompt_shows_the_report(plan: ModulePlan) -> None:
    assert repr(plan) == str(plan)
    assert "Module-level plan" in repr(plan)


def test_it_comes_back_from_its_file(plan: ModulePlan, tmp_path: Path) -> None:
    plan.save(tmp_path / "plan.json")
    loaded = pebble.load_plan(tmp_path / "plan.json")
    assert isinstance(loaded, ModulePlan)
    assert loaded.to_json() == plan.to_json()
    model = EarlyExit()
    module = loaded.apply(model)
    loss(module(example())).backward()
    assert pebble.status(module).in_effect
    assert pebble.status(module).predicted_peak_bytes == plan.peak_bytes
    assert loaded.validate(model, loss=loss, repeats=1).ok
    with pytest.raises(pebble.InvalidArgument, match="loss"):
        loaded.validate(model)
    with pytest.raises(pebble.PlanMismatch, match="other parameters"):
        loaded.apply(EarlyExit(width=8))


@pytest.mark.parametrize(
    "change",
    [
        {"budget_bytes": 1000},
        {"predicted_peak_bytes": 10},
        {"chosen": [{"block": "nowhere", "call": 0, "layer": 0}]},
        {"chosen": [{"block": "layers.0"}, {"block": "layers.0"}]},
        {"calls": "many"},
        {"level": 3},
        {"error_share": -1},
    ],
    ids=str,
)
def test_a_damaged_file_is_refused(
    plan: ModulePlan, change: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan.to_json() | change))
    with pytest.raises(pebble.PlanFormatError, match="damaged"):
        pebble.load_plan(path)
