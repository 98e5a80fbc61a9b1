"""The README's Python examples run as they stand there, one after the other."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pebble.solver import solver_rows

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert names["report"].ok  # type: ignore[attr-defined]
    assert os.listdir(tmp_path) == ["plan.json"]


def test_the_table_of_solvers_is_that_of_the_registry() -> None:
    rows = [("name", "what it does", "bound"), ("---", "---", "---")]
    rows += [(f"`{name}`", summary, bound) for name, summary, bound in solver_rows()]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    found = re.search(r"<!-- solvers -->\n(.*)<!-- /solvers -->", README.read_text(), re.DOTALL)
    assert found is not None
    assert found[1] == table, "copy this table into the README"
