"""Random models by random schedules: benchmarks/fuzz.py, a tenth of it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """benchmarks/fuzz.py, which is no part of the package."""
    path = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("fuzz", path)
    assert spec is not None
    assert spec.loader is not None
    monkeypatch.syspath_prepend(path.parent)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "numbers",
    [
        range(12),
        *(pytest.param(range(n, n + 12), marks=pytest.mark.slow) for n in (12, 24, 36, 48)),
    ],
    ids=str,
)
def test_planned_steps_of_random_models_are_eager_s(fuzz: ModuleType, numbers: range) -> None:
    found = list(fuzz.outcomes(numbers))
    assert [each for each in found if each.result in fuzz.FAULTS] == []
    assert sum(each.result == "equal" for each in found) > len(found) // 2
