"""Steps as frames of text, a slider without widgets, and one with them."""

from __future__ import annotations

import html
import json
import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pebble.errors import InvalidArgument
from pebble.step_through import StepThrough, step_through


def walk(count: int) -> StepThrough:
    return StepThrough(lambda k: f"<step {k}>", count, start=count // 2)


def test_it_is_a_sequence() -> None:
    steps = walk(4)
    assert steps[-1] == "<step 3>"
    assert steps[1:3] == ["<step 1>", "<step 2>"]
    with pytest.raises(IndexError, match="There are 4 steps; there is no step 4"):
        steps[4]
    with pytest.raises(InvalidArgument, match="no step to go through"):
        step_through([])


def test_the_page_holds_its_frames_and_no_tags_of_theirs() -> None:
    page = walk(9)._repr_html_()
    found = re.search(r'data-frames="([^"]*)"', page)
    assert found is not None
    assert json.loads(html.unescape(found[1])) == list(walk(9))
    assert "<step" not in page


def test_long_schedules_are_thinned_out() -> None:
    steps = walk(10_001).kept_steps()
    assert len(steps) <= 401
    assert {0, 5000, 10_000} <= set(steps)


def test_widgets_are_used_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    pytest.importorskip("IPython")
    monkeypatch.setattr("IPython.display.display", shown.append)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    walk(3)._ipython_display_()
    assert "range" in shown.pop().data

    class Slider:
        def __init__(self, value: int, low: int, high: int, **_: Any) -> None:
            self.ends, self.told = (value, low, high), lambda change: None

        def observe(self, told: Any, names: str) -> None:
            self.told = told

    widgets = ModuleType("ipywidgets")
    widgets.__dict__.update(
        IntSlider=Slider, Layout=dict, HTML=lambda text: SimpleNamespace(value=text),
        VBox=lambda parts: parts,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "ipywidgets", widgets)
    walk(3)._ipython_display_()
    slider, text = shown.pop()
    assert slider.ends == (1, 0, 2)
    slider.told({"new": 2})
    assert "&lt;step 2&gt;" in text.value
