"""The page of a plan: whole in itself, and its numbers are the referee's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import pebble
from pebble.plan.page import page_text
from pebble.plan.page_data import aligned, page_data
from tests.plan.planned import tower_plan

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_page_fetches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "plan.html"
    tower_plan().to_html(path)
    text = path.read_text()
    assert text.startswith("<!doctype html>")
    assert not re.findall(r"(?:src|href)\s*=|https?://|@import|fetch\(|url\(", text)
    assert "__DATA__" not in text
    assert "__TITLE__" not in text


def test_its_data_can_be_read_back() -> None:
    view = tower_plan().view
    found = re.search(r'<script id="plan" type="application/json">(.*?)</script>', page_text(view))
    assert found is not None
    assert json.loads(found[1]) == json.loads(json.dumps(page_data(view)))


def test_its_copies_add_up_to_what_is_live() -> None:
    plan = tower_plan()
    data = page_data(plan.view)
    live = np.full(len(data["order"]), data["resident"])
    for v, first, last in data["copies"]:
        live[first : last + 1] += data["values"][v][2]
    for step, op in enumerate(data["order"]):
        live[step] += data["ops"][op][6]
    assert live.tolist() == data["live"]
    assert max(data["live"]) == plan.peak_bytes
    assert sum(data["again"]) == sum(plan.recomputed.values())


def test_every_op_names_its_line() -> None:
    data = page_data(tower_plan().view)
    sources = [data["texts"][op[4]] for op in data["ops"]]
    assert sum("plan/planned.py:" in source for source in sources) > 0.8 * len(sources)


def test_the_unplanned_step_stands_beside_the_plan() -> None:
    view = tower_plan().view
    at = aligned(view)
    assert len(at) == len(view.graph.ops)
    assert (np.diff(at) >= 0).all()
    half = view.baseline.forward_steps
    assert at[half - 1] < view.trace.forward_steps <= at[half]


def test_texts_cannot_end_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tower_plan()
    record = plan.record.__class__(model="</script><script>alert(1)</script>")
    text = page_text(plan.__class__(**{**vars_of(plan), "record": record}).view)
    assert text.count("</script>") == 2
    assert "<script>alert" not in text


def vars_of(plan: object) -> dict[str, object]:
    fields = type(plan).__dataclass_fields__  # type: ignore[attr-defined]
    return {name: getattr(plan, name) for name in fields}


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(pebble.InvalidArgument, match="The page cannot be written to"):
        tower_plan().to_html(tmp_path / "none" / "plan.html")
