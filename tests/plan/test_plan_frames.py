"""A schedule step by step."""

from __future__ import annotations

import pytest

from pebble.formatting import gigabytes
from tests.plan.planned import tower_plan

pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_begins_at_the_peak() -> None:
    plan = tower_plan()
    walk = plan.step_through()
    assert len(walk) == len(plan.schedule)
    assert walk.start == plan.trace.peak_step
    graph_peak = plan.resident.total + plan.trace.peak
    assert f"{gigabytes(graph_peak)} of {gigabytes(plan.budget_bytes)}" in str(walk)


def test_every_step_says_what_runs() -> None:
    plan = tower_plan()
    frames = list(plan.step_through())
    again = [frame for frame in frames if ", computed again" in frame]
    assert len(again) == sum(plan.recomputed.values())
    assert frames[0].startswith(f"op 1 of {len(frames)}, forward")
    assert frames[-1].startswith(f"op {len(frames)} of {len(frames)}, backward")
    assert any("plan/planned.py" in frame for frame in frames)
