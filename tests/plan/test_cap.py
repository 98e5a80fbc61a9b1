from __future__ import annotations

import json
from pathlib import Path

import pytest

import pebble
from pebble.errors import PlanFormatError
from pebble.plan.cap import Cap, expandable_here
from pebble.plan.plan import Plan
from tests.plan.test_reserved_budget import reserved_plan, uneven, unplanned_reserved


@pytest.fixture(scope="module")
def plan() -> Plan:
    step = uneven()
    return reserved_plan(step, int(0.85 * unplanned_reserved(step)))


def test_a_card_s_budget_is_for_what_it_reserves() -> None:
    assert Cap.for_device(None, "cuda:0").kind == "reserved"
    assert Cap.for_device(None, "cpu").kind == "allocated"
    assert Cap.for_device("allocated", "cuda").kind == "allocated"
    assert Cap.for_device("reserved", "cpu").kind == "reserved"


@pytest.mark.parametrize(
    ("environment", "expandable"),
    [
        ({}, False),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64,expandable_segments:True"}, True),
        ({"PYTORCH_ALLOC_CONF": "expandable_segments: True"}, True),
        ({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False"}, False),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}, False),
    ],
)
def test_expandable_segments_of_the_process(environment: dict[str, str], expandable: bool) -> None:
    assert expandable_here(environment) is expandable


def test_a_plan_is_held_by_the_allocator_of_the_process_that_applies_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made_with = Cap("reserved", expandable_segments=True)
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    assert made_with.here("cuda") == Cap("reserved")
    assert made_with.here("cpu") == made_with
    assert Cap().here("cuda") == Cap()


def test_the_cap_is_saved(plan: Plan, tmp_path: Path) -> None:
    plan.save(tmp_path / "plan.json")
    again = pebble.load_plan(tmp_path / "plan.json")
    assert again.cap == plan.cap
    assert again.held_bytes == plan.held_bytes
    assert again.memory == plan.memory


def test_a_file_without_a_cap_is_for_the_bytes_of_tensors(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    data = json.loads(json.dumps(plan.to_json()))
    del data["cap"]
    path.write_text(json.dumps(data))
    assert pebble.load_plan(path).cap == Cap()


@pytest.mark.parametrize(
    ("cap", "text"),
    [
        ({"kind": "used"}, "cap.kind"),
        ({"kind": "reserved", "allowance_bytes": -1}, "cap.allowance_bytes"),
        ({"kind": "reserved", "more": 1}, "cap.more"),
    ],
)
def test_a_damaged_cap_is_refused(
    plan: Plan, tmp_path: Path, cap: dict[str, object], text: str
) -> None:
    path = tmp_path / "plan.json"
    data = json.loads(json.dumps(plan.to_json())) | {"cap": cap}
    path.write_text(json.dumps(data))
    with pytest.raises(PlanFormatError, match=text):
        pebble.load_plan(path)


def test_a_file_is_not_believed_that_what_is_reserved_fits(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    data = json.loads(json.dumps(plan.to_json()))
    budget = (plan.peak_bytes + plan.held_bytes) // 2
    data |= {"budget_bytes": budget, "graph_budget": budget - plan.resident.total}
    path.write_text(json.dumps(data))
    with pytest.raises(PlanFormatError, match="A card reserves"):
        pebble.load_plan(path)
