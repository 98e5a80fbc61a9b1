"""What users import keeps working: the paths of old, and the imports of README and notebooks."""

from __future__ import annotations

import importlib

import pytest

import pebble
from tests.check_wheel import KEPT, written_imports


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_path_is_there(name: str) -> None:
    assert importlib.import_module(name).__doc__


@pytest.mark.parametrize("line", sorted({line for _, line in written_imports()}))
def test_a_written_import_works(line: str) -> None:
    names: dict[str, object] = {}
    exec(line, names)
    assert len(names) > 1  # besides the built-ins


def test_documents_notebooks_and_benchmarks_are_read() -> None:
    read = {where for where, _ in written_imports()}
    assert {"README.md", "zoo.py"} <= read
    assert any(where.endswith(".ipynb") for where in read)


def test_public_names_exist() -> None:
    missing = [name for name in pebble.__all__ if not hasattr(pebble, name)]
    assert missing == []
