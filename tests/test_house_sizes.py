"""How large files, functions and signatures may be."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator

import pebble
from tests.house import Module, assert_none, modules

FILE, MEDIAN, FUNCTION, PARAMETERS = 400, 140, 60, 8
"""Lines of a file, of a file in the middle, of a function without its docstring; parameters."""

PUBLIC = frozenset({"trace_step", "budgeted_blocks"})
"""Documented calls besides those of `pebble.__all__`: one passes what one needs, by keyword."""

EXCEPTIONS: dict[str, str] = {}
"""What is larger, with the reason: a path for a file, `module:function` for a function.

At most five. Split by subject, never by line count.
"""


def lines(module: Module) -> int:
    return module.text.count("\n")


def functions() -> Iterator[tuple[str, str, ast.FunctionDef | ast.AsyncFunctionDef, bool]]:
    """``module:function``, qualified name, definition, whether a method, of the whole house."""
    for module in modules().values():
        for name, node, is_method in module.functions():
            yield f"{module.name}:{name}", name, node, is_method


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, the docstring left out."""
    whole = node.end_lineno - node.lineno + 1  # type: ignore[operator]
    if ast.get_docstring(node) is None:
        return whole
    text = node.body[0]
    return whole - (text.end_lineno - text.lineno + 1)  # type: ignore[operator]


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef, is_method: bool) -> int:
    """How many there are, without ``self`` or ``cls``; ``*args`` and ``**options`` count one."""
    taken = node.args
    all_of_them = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs, taken.vararg, taken.kwarg]
    static = any(ast.unparse(d) == "staticmethod" for d in node.decorator_list)
    return sum(a is not None for a in all_of_them) - (is_method and not static)


def is_public(name: str) -> bool:
    """Whether users call it: a function of `pebble.__all__`, or one of `PUBLIC`."""
    return name in pebble.__all__ or name in PUBLIC


def unexcused(found: dict[str, int]) -> list[str]:
    return [f"{where}: {n}" for where, n in found.items() if where not in EXCEPTIONS]


def test_files_are_short() -> None:
    long = {m.shown: lines(m) for m in modules().values() if lines(m) > FILE}
    assert_none(unexcused(long))


def test_the_file_in_the_middle_is_short() -> None:
    assert statistics.median(lines(module) for module in modules().values()) <= MEDIAN


def test_functions_are_short() -> None:
    long = {where: length(node) for where, _, node, _ in functions() if length(node) > FUNCTION}
    assert_none(unexcused(long))


def test_functions_take_few_parameters() -> None:
    many = {
        where: parameters(node, is_method)
        for where, name, node, is_method in functions()
        if parameters(node, is_method) > PARAMETERS and not is_public(name)
    }
    assert_none(unexcused(many))


def test_exceptions_are_few_and_needed() -> None:
    assert len(EXCEPTIONS) <= 5
    assert all(reason for reason in EXCEPTIONS.values())
    large = {m.shown for m in modules().values() if lines(m) > FILE}
    large |= {
        where
        for where, _, node, is_method in functions()
        if length(node) > FUNCTION or parameters(node, is_method) > PARAMETERS
    }
    assert set(EXCEPTIONS) - large == set()
