"""benchmarks/gpu.py, all of it, where no card is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.house import ROOT

pytest.importorskip("transformers")
KINDS = {"probe", "model", "cap", "bits", "time", "snapshot"}


@pytest.mark.slow
def test_all_of_it_runs_without_a_card(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    script = str(ROOT / "benchmarks" / "gpu.py")
    command = [sys.executable, script, "--device", "cpu", "--tiny", "--output", str(path)]
    done = subprocess.run([*command, "--minutes", "60"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    data: dict[str, Any] = json.loads(path.read_text())
    rows = data["rows"]
    assert {row["kind"] for row in rows} == KINDS
    assert (data["summary"]["failed"], data["summary"]["rows"]) == (0, len(rows))
    probe = rows[0]
    assert len(probe["attention"]) == 24
    models = [row for row in rows if row["kind"] == "model"]
    assert all(row["equal"] for row in models)
    for budget in (b for row in models for b in row["budgets"] if "refused" not in b):
        predicted = budget["predicted"]
        assert 0 < predicted["requested"] <= predicted["allocated"] <= predicted["reserved"]
        assert predicted["reserved"] <= budget["budget"]
        assert 0 < budget["measured"]["beyond_resident"] < predicted["requested"]
    assert [row["bitwise"] for row in rows if row["kind"] == "bits"] == [True]
    runs = [run for row in rows if row["kind"] == "cap" for run in row["runs"]]
    assert {run["factor"] for run in runs} == {1.0, 1.02, 1.05, 1.1}
    assert {run["outcome"] for run in runs} == {"ran"}


def test_without_plans_a_card_is_not_asked(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "--plans is needed: make them with gpu_plans.py" in done.stderr
