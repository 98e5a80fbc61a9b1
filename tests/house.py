"""The house as its tests read it: every module of `pebble/` and `solvers/`, and who imports whom.

Sources are parsed, never run, so the tests hold for whatever layout stands in the tree: modules,
rooms and packages are found, only the order of the floors is written down here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = {"pebble": "pebble", "solvers": "pebble.solvers"}
"""Folder of the tree -> the name under which it is installed."""

FLOORS: tuple[tuple[str, ...], ...] = (
    ("root",),
    ("solvers", "games", "allocator"),
    ("tracing",),
    ("measure",),
    ("runtime",),
    ("plan",),
    ("finetune", "integrations", "data"),
    ("cli",),
    ("front doors",),
)
"""Rooms from the bottom up. An import goes to a lower floor or stays in its room."""

FRONT_DOORS = frozenset(
    {
        "pebble",
        "pebble.__main__",
        "pebble.plotting",
        "pebble.report",
        "pebble.shapes",
        "pebble.solvers.once",
        "pebble.step",
    }
)
"""Import paths for users: they hand on what stands elsewhere; nobody in the house needs them."""

EXCUSED = frozenset({"plot", "explain"})
"""Methods that may call upwards: `plan.plot()` draws, `plan.explain()` asks what else would fit."""


@dataclass(frozen=True)
class Import:
    """One module named by another.

    Attributes
    ----------
    target : str
        Dotted name; of a module of the house wherever the imported name is one.
    name : str
        What is taken from the target; "" for the module itself.
    line : int
    late : bool
        Inside a function.
    types_only : bool
        Under `if TYPE_CHECKING`.
    excused : bool
        Inside a function that may call upwards.
    by_text : bool
        The argument of `import_module`.
    """

    target: str
    name: str
    line: int
    late: bool
    types_only: bool
    excused: bool
    by_text: bool = False

    @property
    def at_start(self) -> bool:
        """Whether it runs as soon as its module is imported."""
        return not (self.late or self.types_only)

    def is_of(self, package: str) -> bool:
        """Whether it names a package or something in it."""
        return self.target == package or self.target.startswith(package + ".")


@dataclass(frozen=True)
class Module:
    """A source file of the house.

    Attributes
    ----------
    name : str
        As it is imported, such as ``pebble.solvers.anneal``.
    path : Path
    """

    name: str
    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def package(self) -> str:
        """The package whose folder the file stands in."""
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @property
    def room(self) -> str:
        """Top folder of `pebble/`, ``solvers``, ``root``, or ``front doors``."""
        if self.name in FRONT_DOORS:
            return "front doors"
        inside = self.package.split(".")[1:]
        return inside[0] if inside else "root"

    @property
    def shown(self) -> str:
        """Its path in the tree."""
        return str(self.path.relative_to(ROOT))

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        return tuple(_Reader(self).read())

    def functions(self) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
        """Qualified name, definition, and whether it is a method, of every function in it."""
        yield from _functions(self.tree, "", in_class=False)


class _Reader:
    """Reads the imports of one module, with where they stand."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.found: list[Import] = []

    def read(self) -> list[Import]:
        self._visit(self.module.tree, functions=(), types_only=False)
        return self.found

    def _visit(self, node: ast.AST, functions: tuple[str, ...], types_only: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                for target, name in self._named(child):
                    self._note(target, name, child, functions, types_only)
            elif isinstance(child, ast.Call):
                text = _import_module_text(child)
                if text:
                    self._note(text, "", child, functions, types_only, by_text=True)
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                self._visit(child, (*functions, child.name), types_only)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                self._visit(child, functions, True)
            else:
                self._visit(child, functions, types_only)

    def _note(
        self,
        target: str,
        name: str,
        node: ast.stmt | ast.expr,
        functions: tuple[str, ...],
        types_only: bool,
        by_text: bool = False,
    ) -> None:
        excused = not EXCUSED.isdisjoint(functions)
        made = Import(target, name, node.lineno, bool(functions), types_only, excused, by_text)
        self.found.append(made)

    def _named(self, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
            return
        base = node.module or ""
        if node.level:
            above = self.module.package.split(".")
            above = above[: len(above) - node.level + 1]
            base = ".".join([*above, *([base] if base else [])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield (inner, "") if inner in _files() else (base, alias.name)


def _import_module_text(call: ast.Call) -> str:
    function = call.func
    named = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    text = call.args[0] if named == "import_module" and call.args else None
    return text.value if isinstance(text, ast.Constant) and isinstance(text.value, str) else ""


def _functions(
    node: ast.AST, above: str, in_class: bool
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield above + child.name, child, in_class
            yield from _functions(child, f"{above}{child.name}.", in_class=False)
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{above}{child.name}.", in_class=True)
        else:
            yield from _functions(child, above, in_class)


@cache
def _files() -> dict[str, Path]:
    """Dotted name -> file, of every module of the house."""
    found = {}
    for folder, package in PARTS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inner = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *(part for part in inner if part != "__init__")])] = path
    return found


@cache
def modules() -> Mapping[str, Module]:
    """Every module of the house by its dotted name."""
    return {name: Module(name, path) for name, path in _files().items()}


def packages() -> set[str]:
    """Dotted names of all packages."""
    return {module.name for module in modules().values() if module.is_package}


def floor(room: str) -> int:
    """Number of a room's floor from the bottom.

    Raises
    ------
    KeyError
        If the room is on no floor: add it to `FLOORS` where it belongs.
    """
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise KeyError(f"The folder {room!r} is on no floor; add it to FLOORS in tests/house.py.")


def arrows(*, front_doors: bool = True) -> Iterator[tuple[Module, Import, Module]]:
    """Who imports whom inside the house, the excused calls and the call of the registry left out.

    Late imports and those for types count: nobody needs what stands above.
    """
    for module in modules().values():
        if not front_doors and module.name in FRONT_DOORS:
            continue
        for made in module.imports:
            other = modules().get(made.target)
            if other is None or made.excused or is_registry_call(module, made):
                continue
            yield module, made, other


def is_registry_call(module: Module, made: Import) -> bool:
    """The one arrow upwards: the root loads the solvers by name when one is asked for."""
    return module.room == "root" and made.by_text and made.target == "pebble.solvers"


def circles(edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Groups of nodes that reach one another, sorted (strongly connected, two nodes or more)."""
    after: dict[str, set[str]] = {}
    for source, target in edges:
        after.setdefault(source, set()).add(target)
        after.setdefault(target, set())
    reached = {node: _reach(node, after) for node in after}
    groups = {
        tuple(sorted(other for other in reached[node] if node in reached[other]))
        for node in after
        if node in reached[node]
    }
    return [list(group) for group in sorted(groups) if len(group) > 1]


def _reach(start: str, after: Mapping[str, set[str]]) -> set[str]:
    """All nodes on the other end of a path of one step or more."""
    found: set[str] = set()
    ahead = list(after[start])
    while ahead:
        node = ahead.pop()
        if node not in found:
            found.add(node)
            ahead += after[node]
    return found


def assert_none(found: Iterable[str]) -> None:
    """Fail with a line for each of what should not be there."""
    listed = sorted(found)
    assert not listed, "\n".join(["", *listed])
