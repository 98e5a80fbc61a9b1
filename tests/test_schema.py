"""Data from outside: their form is checked where pydantic is, and said not to be elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

import pebble

CODE = """
import sys, warnings
sys.modules["pydantic"] = None  # as on a machine without it
import pebble
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    plan = pebble.load_plan(sys.argv[1])
print(plan.peak_bytes, sum("pydantic is not installed" in str(w.message) for w in said) > 0)
try:
    pebble.load_plan(sys.argv[2])
except pebble.PlanFormatError as error:
    print("refused", error)
"""


def test_a_plan_loads_without_pydantic_and_says_that_its_form_is_not_checked(
    tmp_path: Path,
) -> None:
    plan = pebble.optimize(torch.nn.Linear(4, 4), torch.ones(2, 4), budget_gb=1, solver="keep_all")
    plan.save(tmp_path / "plan.json")
    text = (tmp_path / "plan.json").read_text()
    (tmp_path / "bad.json").write_text(text.replace('"schedule"', '"timetable"'))
    command = [sys.executable, "-c", CODE, str(tmp_path / "plan.json"), str(tmp_path / "bad.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == f"{plan.peak_bytes} True"
    assert second.startswith("refused The plan")
