"""Damaged plan, graph and netlist files: benchmarks/mutations.py, a tenth of it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load() -> ModuleType:
    """benchmarks/mutations.py, which is no part of the package."""
    path = Path(__file__).parents[1] / "benchmarks" / "mutations.py"
    spec = importlib.util.spec_from_file_location("mutations", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutations"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", [0, 1])
def test_damaged_files_are_refused_or_mean_what_they_say(tmp_path: Path, seed: int) -> None:
    found = list(load().outcomes(100, seed, tmp_path))
    odd = [each for each in found if each.result not in ("refused", "accepted", "hang")]
    assert odd == []
    assert {"refused", "accepted"} <= {each.result for each in found}
    assert max(len(each.detail) for each in found) < 600
