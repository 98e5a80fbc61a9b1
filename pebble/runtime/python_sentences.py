"""Sentences about Python values that differ from what they were at planning."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from pebble.schema import shortened
from pebble.tracing.python_reads import Fact, FactKind, PythonReads

_CHILD = re.compile(r"(?:\._modules|\.__dict__\['_modules'\])\['([^']*)'\]")
_HELD = re.compile(r"(?:\._|\.__dict__\['_)(?:parameters|buffers)(?:'\])?\['([^']*)'\]")
_CLASS = re.compile(r"type\(([^()]*)\)(?:\.__mro__\[\d+\])?")
_IMPORT = re.compile(r"G\['__import_([^']+)'\]")
_GLOBAL = re.compile(r"G\['([^']+)'\]")
_FIRST = r"\1"
_LOCAL = re.compile(r"^L\['([^']+)'\]")


def name_of(reads: PythonReads, place: int, modules: Collection[str]) -> str:
    """What people call a place: ``'temperature' of the model``."""
    text = reads.places[place].text
    root = next((p.text for p in reads.places if p.step == "root"), "L['self']")
    text = text.removeprefix("___from_numpy(").removesuffix(")") if "___from" in text else text
    text = re.sub(r"dict\((type\(.*?\)(?:\.__mro__\[\d+\])?\.__dict__)\)", r"\1", text)
    if text.startswith("G["):
        plain = _IMPORT.sub(lambda m: m[1].replace("_dot_", "."), text)
        return f"the global {_GLOBAL.sub(_FIRST, plain)!r}"
    if text.startswith("L[") and not text.startswith(root):
        return f"{_LOCAL.sub(_FIRST, text)!r}, which the forward closes over,"
    text = _HELD.sub(r".\1", _CHILD.sub(r".\1", text.replace(root, "")))
    text = _CLASS.sub(r"\1", text).replace(".__dict__", "")
    text = re.sub(r"\['(\w+)'\]\.__(kw)?defaults__", r".\1.__\2defaults__", text)
    path = text.lstrip(".")
    owner = _owner(path, modules)
    key = path[len(owner) :].lstrip(".")
    of = f"{owner!r}" if owner else "the model"
    defaults = re.fullmatch(r"(.*?)\.?__(?:kw)?defaults__(.*)", key)
    if defaults is not None:
        return f"a default argument of {defaults[1]!r} of {of}"
    return f"{key!r} of {of}" if key else of


def _owner(path: str, modules: Collection[str]) -> str:
    parts = path.split(".")
    for n in range(len(parts), 0, -1):
        if ".".join(parts[:n]) in modules:
            return ".".join(parts[:n])
    return ""


def difference(
    reads: PythonReads, fact: Fact, values: Mapping[int, Any], modules: Collection[str]
) -> tuple[str, str]:
    """The two halves of a sentence: what was planned, and what is found."""
    name = name_of(reads, fact.place, modules)
    if fact.place not in values:
        was = _shown(fact.value) if fact.kind in (FactKind.EQUAL, FactKind.SAME) else "there"
        return f"{_upper(name)} was {was} at planning", ", but is gone."
    now, kind = values[fact.place], fact.kind
    if kind in (FactKind.EQUAL, FactKind.SAME):
        return f"{_upper(name)} was {_shown(fact.value)} at planning", f", but is {_shown(now)}."
    if kind is FactKind.AMONG:
        was = " or ".join(map(_shown, fact.value))
        return f"{_upper(name)} was {was} at planning", f", but is {_shown(now)}."
    if kind is FactKind.CONDITION:
        was = f"{_upper(name)} chose a branch of the forward at planning"
        return was, f" that it does not choose now that it is {_shown(now)}."
    if kind is FactKind.LENGTH:
        return f"{_upper(name)} had {fact.value} entries at planning", f", but has {len(now)}."
    if kind is FactKind.KEYS:
        keys = f"the entries {_shown(list(fact.value))}"
        return f"{_upper(name)} had {keys} at planning", f", but has {_shown(list(now))}."
    if kind in (FactKind.HAS_KEY, FactKind.HAS_ATTRIBUTE, FactKind.OVERRIDES):
        has = ("had no", "but has one") if not fact.value else ("had an", "but has none")
        what = "entry" if kind is FactKind.HAS_KEY else "attribute"
        own = " of its own" if kind is FactKind.OVERRIDES else ""
        return f"{_upper(name)} {has[0]} {what} {fact.key!r}{own} at planning", f", {has[1]}."
    if kind is FactKind.ALIAS:
        other = name_of(reads, fact.key, modules)
        return f"{_upper(name)} was the same object as {other} at planning", ", but is another."
    was = getattr(fact.value, "__name__", fact.value)
    return f"{_upper(name)} was a {was} at planning", f", but is a {type(now).__name__}."


def _shown(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    return f"{name}" if isinstance(name, str) else shortened(value)


def _upper(name: str) -> str:
    return name[0].upper() + name[1:]
