"""The trace for chrome://tracing: its form, and that times and bytes are the plan's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pebble.plan.chrome_trace import chrome_trace
from tests.plan.planned import tower_plan

pytestmark = pytest.mark.usefixtures("one_thread")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Complete(Strict):
    ph: Literal["X"]
    name: str
    cat: str
    ts: float
    dur: Annotated[float, Field(ge=0)]
    pid: int
    tid: int
    args: dict[str, Any]


class Counter(Strict):
    ph: Literal["C"]
    name: str
    ts: float
    pid: int
    args: dict[str, Annotated[int, Field(ge=0)]]


class Metadata(Strict):
    ph: Literal["M"]
    name: Literal["process_name", "thread_name"]
    ts: float
    pid: int
    tid: int
    args: dict[str, str]


FORM = TypeAdapter(list[Annotated[Complete | Counter | Metadata, Field(discriminator="ph")]])


def test_it_has_the_form_that_viewers_read(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    tower_plan().to_chrome_trace(path)
    data = json.loads(path.read_text())
    assert data == chrome_trace(tower_plan().view)
    assert FORM.validate_python(data["traceEvents"])
    times = [event["ts"] for event in data["traceEvents"]]
    assert times == sorted(times)


def test_times_and_bytes_are_the_plans() -> None:
    plan = tower_plan()
    events = chrome_trace(plan.view)["traceEvents"]
    ops = [event for event in events if event["ph"] == "X"]
    assert len(ops) == len(plan.schedule)
    assert sum(event["dur"] for event in ops) == pytest.approx(plan.cost / 1000)
    again = [event for event in ops if event["cat"] == "computed again"]
    assert len(again) == sum(plan.recomputed.values())
    counters = [event["args"] for event in events if event["ph"] == "C"]
    graph_peak = max(c["resident"] + c["step"] for c in counters)
    assert graph_peak == plan.resident.total + plan.trace.peak
    assert all(sum(c.values()) == plan.budget_bytes for c in counters)
