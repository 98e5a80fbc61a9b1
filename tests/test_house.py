"""Rules of the house that no type checker knows: who may import what, and the doctests."""

from __future__ import annotations

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import pebble

ROOT = Path(__file__).resolve().parent.parent
TORCH_FREE = {
    "__init__", "__main__", "_version", "cli", "comparison", "pipeline", "plan", "plotting",
    "report", "sweeping",
}  # fmt: skip
CORE = {
    "answers", "arrays", "contract", "errors", "graph", "graphfile", "interchange", "ops", "problem",
    "referee", "registry", "schedule", "solver", "wiring",
}  # fmt: skip


def sources() -> list[Path]:
    return sorted([*(ROOT / "pebble").rglob("*.py"), *(ROOT / "solvers").rglob("*.py")])


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def uses(path: Path, package: str, **options: bool) -> bool:
    return any(n == package or n.startswith(package + ".") for n in imported(path, **options))


def is_solver(path: Path) -> bool:
    return path.is_relative_to(ROOT / "solvers")


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_flow_one_way(path: Path) -> None:
    if path.stem in CORE | TORCH_FREE or is_solver(path) or "games" in path.parts:
        late = path.stem in {"pipeline", "plan"}  # names torch's types for type checkers only
        assert late or not uses(path, "torch"), "torch belongs to the torch rooms"
        assert not uses(path, "torch", top_level_only=True)
    if not (is_solver(path) or "games" in path.parts or path.stem == "cli"):
        assert not uses(path, "ortools"), "ortools belongs to the solvers"
    if path.stem != "plotting":
        assert not uses(path, "matplotlib"), "matplotlib belongs to plotting"
    assert path.stem == "compiling" or not uses(path, "numba"), "compiling is the way to numba"
    for heavy in ("ortools", "pebble.compiling", "matplotlib"):
        compiled = path.stem.startswith("_") or "kernels" in path.parts
        kernels = heavy == "pebble.compiling" and compiled
        assert kernels or not uses(path, heavy, top_level_only=True), f"import {heavy} late"
    if is_solver(path):
        allowed = {f"pebble.{room}" for room in CORE} | {"pebble.solvers", "pebble.compiling"}
        foreign = {
            name
            for name in imported(path)
            if name.split(".")[0] == "pebble"
            and not any(name == a or name.startswith(a + ".") for a in allowed)
        }
        assert not foreign, "a solver sees only the torch-free core"
    elif path.stem in CORE:
        assert not uses(path, "pebble.solvers"), "the core names the solvers through the registry"


def test_importing_pebble_is_light() -> None:
    code = (
        "import sys, pebble; "
        "print([m for m in ('torch', 'ortools', 'numba', 'matplotlib', 'transformers') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_solvers_are_not_importable_under_their_folder_name() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import solvers"
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=False
    )
    assert "Import pebble.solvers" in done.stderr


def doctested() -> list[str]:
    names = []
    for path in sources():
        if ">>>" in path.read_text():
            folder, package = (
                (ROOT / "solvers", "pebble.solvers")
                if is_solver(path)
                else (ROOT / "pebble", "pebble")
            )
            parts = path.relative_to(folder).with_suffix("").parts
            names.append(".".join([package, *(p for p in parts if p != "__init__")]))
    return names


@pytest.mark.parametrize("name", doctested())
def test_doctests(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    assert failed == 0


def test_public_names_exist() -> None:
    for name in pebble.__all__:
        assert getattr(pebble, name) is not None
