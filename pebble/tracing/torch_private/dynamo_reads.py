"""dynamo's guards as plain facts about Python values: nothing of them pins the model's identity."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from pebble.tracing.python_reads import (
    BASE,
    Fact,
    FactKind,
    Formula,
    Method,
    Place,
    PythonReads,
    is_code,
    is_plain,
)

# Modules whose own values are not watched: nobody trains with another torch after planning. What
# transformers notes of its classes changes with every class that is made.
_QUIET = re.compile(r"(torch|builtins|math|transformers\.utils\.output_capturing)(\.|$)")
_ALIAS = re.compile(r"__import_|__builtins_dict__|_\d+_c\d+$")
# What the guard of the model's modules, parameters and hooks sees itself.
_STORES = re.compile(
    r"(\._parameters|\._buffers|\._modules|_hooks\w*|'_(parameters|buffers|modules)'\])$"
)
_STORED = re.compile(r"(\._|'_)(parameters|buffers)('\])?\['[^']*'\]$")
_OWN = (".training", "._output_capturing_hooks_installed")
_VALUES = (
    "CONSTANT_MATCH", "EQUALS_MATCH", "BOOL_MATCH", "NONE_MATCH", "ID_MATCH", "BUILTIN_MATCH",
    "FUNCTION_MATCH", "CLASS_MATCH", "CLOSURE_MATCH",
)  # fmt: skip


class ReadsBuilder:
    """Reads what dynamo guards of a captured frame.

    Parameters
    ----------
    captured : GraphCaptureOutput
    model : nn.Module
        Whose places start the paths.
    """

    def __init__(self, captured: Any, model: nn.Module) -> None:
        from torch._dynamo import guards

        self.model = model
        self.graph = captured.output_graph
        self.local = self.graph.local_scope
        self.globals = self.graph.global_scope
        self.traced = {id(code) for code in getattr(captured, "traced_code", ())}
        self.helpers: dict[str, Any] = dict(guards._get_closure_vars())
        self.cells = dict(zip(captured.bytecode.co_freevars, captured.closure or ()))
        self.names: dict[int, str] = {}
        for named in (model.named_parameters, model.named_buffers):
            self.names |= {id(t): name for name, t in named(remove_duplicate=False)}
        self.places: list[Place] = []
        self.values: list[Any] = []
        self.known: dict[Any, int] = {}
        self.by_name: dict[str, int | None] = {}

    def input_places(self, count: int) -> tuple[int | None, ...]:
        """The place of each of the first inputs of the captured graph."""
        metadata = getattr(self.graph, "export_metadata", None)
        sources = getattr(metadata, "graph_input_idx_to_local_source", None) or {}
        return tuple(self.place(sources[i]) if i in sources else None for i in range(count))

    def reads(self) -> PythonReads:
        """The facts, each once; all places that were asked for before."""
        facts: dict[Any, Fact] = {}
        for guard in self.graph.guards:
            source, kind = guard.originating_source, guard.create_fn_name()
            place = self.place(source)
            if place is None:
                continue
            for fact in self._facts(kind, place, _arguments(guard.create_fn)):
                facts.setdefault((fact.place, fact.kind, repr(fact.key)), fact)
        facts |= {("condition", i): fact for i, fact in enumerate(self._conditions())}
        plain = {fact.place for fact in facts.values() if fact.kind is FactKind.EQUAL}
        within = (FactKind.TYPE, FactKind.LENGTH)  # of what is compared as a whole
        kept = [f for f in facts.values() if not (f.place in plain and f.kind in within)]
        return PythonReads(
            tuple(self.places), tuple(kept), tuple(self._methods()), self.globals, self.cells,
            self.helpers,
        )  # fmt: skip

    def place(self, source: Any) -> int | None:
        """The place of a source; None if it is an input, or nothing to watch."""
        name = name_of_source(source)
        if name not in self.by_name:
            self.by_name[name] = self._make(source, name)
        return self.by_name[name]

    def _make(self, source: Any, name: str) -> int | None:
        if "L[" not in name and "G[" not in name:
            return None
        value = self._value(name)
        if value is self.model:
            return self._add(Place("root", None, name), value)
        base = getattr(source, "base", None)
        if base is None:
            return self._root(name, value)
        start = self.place(base)
        if start is None:
            return None
        whole = name_of_source(base)
        if whole not in name:
            return None
        step = name.replace(whole, BASE).replace(f"dict({BASE}.__dict__)", f"{BASE}.__dict__")
        if isinstance(value, types.ModuleType):
            return None if _QUIET.match(value.__name__) else self._bind(name, value)
        if isinstance(value, type) and step == f"type({BASE})":
            return self._bind(name, value)
        return self._add(Place(step, start, name), value)

    def _root(self, name: str, value: Any) -> int | None:
        found = re.fullmatch(r"([LG])\['([^']+)'\]", name)
        if found is None or value is _ABSENT:
            return None
        scope, key = found.groups()
        if scope == "L":
            cell = self.cells.get(key)
            return (
                None
                if cell is None
                else self._add(Place(f"C[{key!r}].cell_contents", None, name), value)
            )
        if isinstance(value, types.ModuleType) or _ALIAS.match(key):
            quiet = not isinstance(value, types.ModuleType) or _QUIET.match(value.__name__)
            return None if quiet else self._bind(name, value)
        return self._add(Place(f"G[{key!r}]", None, name), value)

    def _bind(self, name: str, value: Any) -> int:
        return self._add(Place("bound", None, name, value), value, key=("bound", id(value)))

    def _add(self, place: Place, value: Any, key: Any = None) -> int:
        key = key or (place.base, place.step)
        if key not in self.known:
            self.known[key] = len(self.places)
            self.places.append(place)
            self.values.append(value)
        return self.known[key]

    def _value(self, name: str) -> Any:
        try:
            return eval(name, self.helpers | {"L": self.local, "G": self.globals})
        except Exception:
            return _ABSENT

    def _facts(self, kind: str, place: int, arguments: Mapping[str, Any]) -> list[Fact]:
        value, text = self.values[place], self.places[place].text
        if value is _ABSENT or text.endswith(_OWN) or self.places[place].step == "bound":
            return []
        make = _FACTS.get(kind)
        if _STORES.search(text) and kind not in ("DICT_KEYS_MATCH", "MAPPING_KEYS_CHECK"):
            return []
        if kind == "DUPLICATE_INPUT":
            return self._alias(place, arguments.get("source_b"))
        if kind == "TENSOR_MATCH" or isinstance(value, torch.Tensor):
            return self._tensor(place, value, text)
        if kind in _VALUES:
            return [_of_value(place, value)]
        return [] if make is None else make(place, value, arguments)

    def _alias(self, place: int, source: Any) -> list[Fact]:
        other = self.place(source)
        if other is None or other == place:
            return []
        first, second = self.places[place], self.places[other]
        if _STORED.search(first.text) and _STORED.search(second.text):
            return []  # tied weights, whose names are compared elsewhere
        later, earlier = max(place, other), min(place, other)
        return [Fact(later, FactKind.ALIAS, None, earlier)]

    def _tensor(self, place: int, value: Any, text: str) -> list[Fact]:
        if not isinstance(value, torch.Tensor):
            return []
        name = self.names.get(id(value))
        if name is None:
            return [Fact(place, FactKind.TENSOR, None)]
        return [] if _STORED.search(text) else [Fact(place, FactKind.TIED, name)]

    def _conditions(self) -> Iterator[Fact]:
        """What numbers that dynamo follows as symbols must keep to, or the graph is another."""
        environment = self.graph.shape_env
        for guard in getattr(environment, "guards", ()):
            formula = self.formula(guard.expr)
            if formula is not None and formula.symbols:
                yield Fact(formula.symbols[0][1], FactKind.CONDITION, formula)

    def formula(self, expression: Any) -> Formula | None:
        """A sympy expression of symbols as Python; None where one is not a value that is read."""
        from torch.utils._sympy.printers import PythonPrinter

        sources = getattr(self.graph.shape_env, "var_to_sources", {})
        symbols = []
        for symbol in sorted(getattr(expression, "free_symbols", ()), key=str):
            place = self.place(sources[symbol][0]) if sources.get(symbol) else None
            if place is None:
                return None
            symbols.append((str(symbol), place))
        return Formula(PythonPrinter().doprint(expression), tuple(symbols))

    def _methods(self) -> list[Method]:
        """The functions of the model's classes that were traced."""
        kinds = {kind for m in self.model.modules() for kind in type(m).__mro__}
        found = []
        for kind in kinds - {nn.Module, object}:
            for name, held in vars(kind).items():
                function = getattr(held, "fget", None) or getattr(held, "__func__", held)
                if id(getattr(function, "__code__", None)) in self.traced:
                    found.append(Method(kind, name, held, _defaults(function)))
        return found


_ABSENT = object()


def _defaults(function: Any) -> Any:
    return function.__defaults__


def _of_value(place: int, value: Any) -> Fact:
    if is_plain(value):
        return Fact(place, FactKind.EQUAL, value)
    if is_code(value):
        return Fact(place, FactKind.SAME, value)
    if isinstance(value, types.MethodType):
        return Fact(place, FactKind.SAME, value.__func__)
    return Fact(place, FactKind.TYPE, type(value))


def _type(place: int, value: Any, _: Any) -> list[Fact]:
    # the kinds of modules are compared by name elsewhere: a planned one may stand there
    return [] if isinstance(value, nn.Module) else [Fact(place, FactKind.TYPE, type(value))]


def _length(place: int, value: Any, _: Any) -> list[Fact]:
    return [Fact(place, FactKind.LENGTH, len(value))]


def _keys(place: int, value: Any, _: Any) -> list[Fact]:
    keys = tuple(value)
    if all(map(is_plain, keys)) or all(map(is_code, keys)):
        return [Fact(place, FactKind.KEYS, keys)]
    return [Fact(place, FactKind.LENGTH, len(keys))]


def _has_key(place: int, value: Any, arguments: Mapping[str, Any]) -> list[Fact]:
    key = arguments.get("key")
    known = is_plain(key) and hasattr(value, "__contains__")
    return [Fact(place, FactKind.HAS_KEY, key in value, key)] if known else []


def _has_attribute(place: int, value: Any, arguments: Mapping[str, Any]) -> list[Fact]:
    name = arguments.get("attr")
    if not isinstance(name, str):
        return []
    return [Fact(place, FactKind.HAS_ATTRIBUTE, hasattr(value, name), name)]


def _overrides(place: int, value: Any, arguments: Mapping[str, Any]) -> list[Fact]:
    name = arguments.get("attr")
    if not isinstance(name, str) or not hasattr(value, "__dict__"):
        return []
    if isinstance(value, nn.Module) and name == "forward":
        return []
    return [Fact(place, FactKind.OVERRIDES, name in value.__dict__, name)]


_FACTS: dict[str, Callable[[int, Any, Mapping[str, Any]], list[Fact]]] = {
    "TYPE_MATCH": _type,
    "SEQUENCE_LENGTH": _length,
    "DICT_KEYS_MATCH": _keys,
    "MAPPING_KEYS_CHECK": _keys,
    "DICT_CONTAINS": _has_key,
    "DICT_NOT_CONTAINS": _has_key,
    "SET_CONTAINS": _has_key,
    "SET_NOT_CONTAINS": _has_key,
    "HASATTR": _has_attribute,
    "NOT_PRESENT_IN_GENERIC_DICT": _overrides,
}


def _arguments(create: Any) -> Mapping[str, Any]:
    return getattr(create, "keywords", None) or {}


def name_of_source(source: Any) -> str:
    """Dynamo's name of a source: a Python expression."""
    name = source.name
    return str(name() if callable(name) else name)
