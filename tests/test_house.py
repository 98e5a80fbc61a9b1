"""Rules of the house that no type checker knows: who may import what, and the doctests."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest

from tests.house import (
    FRONT_DOORS,
    ROOT,
    Import,
    Module,
    arrows,
    assert_none,
    circles,
    floor,
    is_registry_call,
    modules,
    packages,
)

TORCH_FREE = ("root", "solvers", "games", "allocator")
TORCH_PRIVATE = "pebble.tracing.torch_private"
HEAVY = ("ortools", "matplotlib", "transformers", "peft", "numba", "lightning", "trl")
"""Loaded when they are needed: each takes longer to import than everything here together."""
COMPILED_FOLDERS = ("kernels", "annealing")
"""Folders that hold compiled code and what prepares its arrays; others import them late."""
NO_MODULE = ("test_docs", "test_documents", "test_fuzz", "test_generators", "test_gpu_benchmark",
             "test_house", "test_house_sizes", "test_import_paths", "test_mutations",
             "test_readme")  # fmt: skip
"""Test files about the tree itself, or about what stands outside `pebble/` and `solvers/`."""


def at(module: Module, made: Import) -> str:
    """Where an import stands, to be read in a failure."""
    return f"{module.shown}:{made.line} {made.target} {made.name}".rstrip()


def all_imports() -> Iterator[tuple[Module, Import]]:
    for module in modules().values():
        for made in module.imports:
            yield module, made


# -- the flow ------------------------------------------------------------------------------------


def test_nobody_imports_upwards() -> None:
    upwards = [
        f"{at(module, made)}: {module.room} -> {other.room}"
        for module, made, other in arrows()
        if module.room != other.room and floor(other.room) >= floor(module.room)
    ]
    assert_none(upwards)


def test_rooms_make_no_circle() -> None:
    edges = [(module.room, other.room) for module, _, other in arrows(front_doors=False)]
    assert_none(map(", ".join, circles(edge for edge in edges if edge[0] != edge[1])))


def test_modules_make_no_circle() -> None:
    edges = [(module.name, other.name) for module, _, other in arrows(front_doors=False)]
    assert_none(map(", ".join, circles(edge for edge in edges if edge[0] != edge[1])))


def test_front_doors_hold_nothing_but_imports() -> None:
    assert set(modules()) >= FRONT_DOORS
    found = []
    for name in sorted(FRONT_DOORS - {"pebble", "pebble.__main__"}):
        tree = modules()[name].tree
        for node in tree.body[1:] if ast.get_docstring(tree) else tree.body:
            exports = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            if not exports and not isinstance(node, ast.Import | ast.ImportFrom):
                found.append(f"{modules()[name].shown}:{node.lineno}")
    assert_none(found)


def test_imports_by_name_can_be_read() -> None:
    """`import_module` of a variable would hide an arrow from these tests."""
    hidden = []
    for module in modules().values():
        if module.name in FRONT_DOORS:
            continue
        calls = [n for n in ast.walk(module.tree) if isinstance(n, ast.Call)]
        named = [c for c in calls if ast.unparse(c.func).rpartition(".")[2] == "import_module"]
        hidden += [
            f"{module.shown}:{call.lineno}"
            for call in named
            if not (call.args and isinstance(call.args[0], ast.Constant))
        ]
    assert_none(hidden)


def test_the_root_names_the_solvers_once() -> None:
    calls = [
        at(module, made)
        for module, made in all_imports()
        if made.by_text and made.is_of("pebble.solvers") and module.room == "root"
    ]
    named = [
        at(module, made)
        for module, made in all_imports()
        if made.is_of("pebble.solvers") and module.room in ("root", "games")
        if not is_registry_call(module, made)
    ]
    assert len(calls) == 1, calls
    assert_none(named)


def test_strategies_import_no_strategies() -> None:
    """What two solvers share is a part, in a folder; the registry is the way to another solver."""
    top = {
        name
        for name, module in modules().items()
        if module.package == "pebble.solvers" and not module.is_package
    }
    found = [
        at(module, made)
        for module, made in all_imports()
        if made.target in top and module.room == "solvers" and not module.is_package
    ]
    assert_none(found)


# -- what only some folders may import -----------------------------------------------------------


def test_no_torch_at_the_root_nor_in_solvers_nor_in_games() -> None:
    found = [
        at(module, made)
        for module, made in all_imports()
        if module.room in TORCH_FREE and made.is_of("torch")
    ]
    assert_none(found)


def test_private_torch_stands_in_one_folder() -> None:
    found = []
    for module in modules().values():
        if module.package != TORCH_PRIVATE:
            found += [f"{module.shown}:{line} {name}" for line, name in _private_torch(module)]
    assert_none(found)


def _private_torch(module: Module) -> Iterator[tuple[int, str]]:
    """Lines that name an underscored part of torch, in an import or a path."""
    for made in module.imports:
        if made.is_of("torch") and _is_private(f"{made.target}.{made.name}"):
            yield made.line, f"{made.target}.{made.name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            path = ast.unparse(node)
            if re.fullmatch(r"torch(\.\w+)+", path) and _is_private(path):
                yield node.lineno, path


def _is_private(dotted: str) -> bool:
    if dotted.startswith("torch.ops."):  # names of ops, not of modules
        return False
    return any(part.startswith("_") and not part.endswith("__") for part in dotted.split("."))


def test_what_is_heavy_is_imported_in_functions() -> None:
    found = [
        at(module, made)
        for module, made in all_imports()
        if made.at_start and any(made.is_of(package) for package in HEAVY)
        if module.name != "pebble.compiling"
    ]
    assert_none(found)


def test_compiled_code_is_imported_in_functions() -> None:
    eager: dict[str, set[str]] = {
        module.name: {made.target for made in module.imports if made.at_start}
        for module in modules().values()
    }
    compiled = {"pebble.compiling"}
    while more := {name for name, seen in eager.items() if seen & compiled} - compiled:
        compiled |= more
    outside = [
        name
        for name in sorted(compiled - {"pebble.compiling"})
        if not set(COMPILED_FOLDERS) & set(modules()[name].package.split("."))
    ]
    assert_none(outside)


def test_heavy_packages_have_their_rooms() -> None:
    found = []
    for module, made in all_imports():
        if made.is_of("ortools") and module.room not in ("solvers", "games", "cli"):
            found.append(f"{at(module, made)}: ortools belongs to the solvers and games")
        if made.is_of("numba") and module.name != "pebble.compiling":
            found.append(f"{at(module, made)}: pebble.compiling is the way to numba")
    assert_none(found)


# -- private names -------------------------------------------------------------------------------


def test_private_names_stay_in_their_module() -> None:
    found = [
        at(module, made)
        for module, made, _ in arrows()
        if made.name.startswith("_") and not made.name.startswith("__")
    ]
    assert_none(found)


def test_private_modules_stay_in_their_folder() -> None:
    found = []
    for module, made, other in arrows():
        own = other.name.rpartition(".")[2]
        private = own.startswith("_") and not own.startswith("__")
        if private and other.package != module.package and other.name != "pebble._version":
            found.append(at(module, made))
    assert_none(found)


# -- the tree ------------------------------------------------------------------------------------


def test_every_package_is_in_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert sorted(listed["packages"]) == sorted(packages())
    folders = {module.path.parent for module in modules().values()}
    assert not [str(f) for f in folders if not (f / "__init__.py").exists()]


def test_every_data_file_is_in_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped = set()
    for package, patterns in listed["package-data"].items():
        folder = modules()[package].path.parent
        for pattern in patterns:
            found = list(folder.glob(pattern))
            assert found, f"package-data of {package}: nothing matches {pattern}"
            shipped.update(found)
    there = {
        path
        for folder in ("pebble", "solvers")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".nbi", ".nbc")
    }
    assert sorted(map(str, there)) == sorted(map(str, shipped))


def test_tests_stand_where_their_modules_stand() -> None:
    misplaced = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        where = path.relative_to(ROOT / "tests").parent.parts
        package = ".".join(["pebble", *where])
        if where and package not in packages():
            misplaced.append(f"{path.relative_to(ROOT)}: there is no package {package}")
            continue
        rooms = {name for name in modules() if modules()[name].package == package}
        if where:  # a test of a sub-package may stand in the folder of its package
            rooms |= {name for name in modules() if name.startswith(package + ".")}
        stems = {name.rpartition(".")[2] for name in rooms}
        subject = path.stem.removeprefix("test_")
        named = any(subject == stem or subject.startswith(stem + "_") for stem in stems)
        if not named and path.stem not in NO_MODULE:
            misplaced.append(f"{path.relative_to(ROOT)}: no module {subject} in {package}")
    assert_none(misplaced)


# -- what runs -----------------------------------------------------------------------------------


def test_importing_pebble_is_light() -> None:
    code = (
        "import sys, pebble; "
        "print([m for m in ('torch', 'ortools', 'numba', 'matplotlib', 'transformers', 'pydantic') "
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


@pytest.mark.parametrize("name", [n for n, m in modules().items() if ">>>" in m.text])
def test_doctests(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried > 0
    assert failed == 0
