"""The Python state that a traced forward has read: where each value is, and what it was."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from typing import Any

import torch
from torch import nn

BASE = "_base_"  # in a step: the value that it starts from
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, Enum)
_PLAIN_TREES = (tuple, list, frozenset, torch.Size, slice, range)
_CODE = (types.FunctionType, types.BuiltinFunctionType, type)


class FactKind(StrEnum):
    """What of a value was read."""

    EQUAL = "equal"
    SAME = "same"
    TYPE = "type"
    LENGTH = "length"
    KEYS = "keys"
    HAS_KEY = "has key"
    HAS_ATTRIBUTE = "has attribute"
    OVERRIDES = "overrides"
    ALIAS = "alias"
    AMONG = "among"
    CONDITION = "condition"
    TENSOR = "tensor"
    TIED = "tied"


@dataclass(frozen=True)
class Place:
    """Where a value is found.

    Attributes
    ----------
    step : str
        A Python expression of `BASE`, or of ``root`` (the model), ``G`` (globals of the forward),
        ``C`` (its closure cells) or ``bound`` (an object that does not change).
    base : int or None
        The place that it starts from.
    text : str
        The tracer's name of the place.
    bound : object
    """

    step: str
    base: int | None
    text: str
    bound: Any = None


@dataclass(frozen=True)
class Fact:
    """What a place held: `value` by kind; `key` of a key, an attribute, or another place."""

    place: int
    kind: FactKind
    value: Any
    key: Any = None


@dataclass(frozen=True)
class Formula:
    """Stands for a number made of numbers that were read.

    Attributes
    ----------
    text : str
        A Python expression of the symbols.
    symbols : tuple of (str, int)
        Each with the place that it is read from.
    """

    text: str
    symbols: tuple[tuple[str, int], ...]

    def value(self, values: Mapping[int, Any]) -> Any:
        """The number, from the values of all places."""
        return eval(self.text, {name: values[place] for name, place in self.symbols})


@dataclass(frozen=True)
class Method:
    """A function of a class of the model, as it was traced."""

    owner: type
    name: str
    function: Any
    defaults: Any


@dataclass(frozen=True)
class PythonReads:
    """The Python state that a traced forward has read.

    Attributes
    ----------
    places : tuple of Place
        Bases before what starts from them.
    facts : tuple of Fact
    methods : tuple of Method
    global_values : dict
        Of the module that the forward is defined in: the dictionary itself.
    cells : mapping
        Closure cells of the forward by name.
    helpers : mapping
        Functions that steps may call.
    """

    places: tuple[Place, ...] = ()
    facts: tuple[Fact, ...] = ()
    methods: tuple[Method, ...] = ()
    global_values: Mapping[str, Any] | None = None
    cells: Mapping[str, Any] | None = None
    helpers: Mapping[str, Any] | None = None

    def settled(self, model: nn.Module) -> PythonReads:
        """Without what was so during the trace only: where the tracer or this library stood in."""
        values = self.values(model)
        kept = [f for f in self.facts if values.get(f.place, _GONE) is not _GONE]
        return replace(self, facts=tuple(f for f in kept if holds(f, values)))

    def values(self, model: nn.Module) -> dict[int, Any]:
        """The value of every place now; those that are gone are left out."""
        found: dict[int, Any] = {}
        for i, place in enumerate(self.places):
            if place.base is not None and place.base not in found:
                continue
            try:
                found[i] = self.value(place, found.get(place.base or 0), model)
            except (AttributeError, LookupError, TypeError, ValueError, NameError):
                continue
        return found

    def value(self, place: Place, base: Any, model: nn.Module) -> Any:
        """The value of a place now."""
        scope = dict(self.helpers or {})
        scope |= {"root": model, "G": self.global_values, "C": self.cells}
        scope |= {BASE: base, "bound": place.bound}
        return eval(place.step, scope)  # the tracer's own text


_GONE = object()


def holds(fact: Fact, values: Mapping[int, Any]) -> bool:
    """Whether a fact is so; those of tensors are not looked at here."""
    value = values[fact.place]
    return _HOLDS[fact.kind](fact, value, values)


def _same(fact: Fact, value: Any, _: Any) -> bool:
    return getattr(value, "__func__", value) is fact.value


def _equal(fact: Fact, value: Any, _: Any) -> bool:
    return _alike(value, fact.value)


def among(value: Any, known: Sequence[Any]) -> bool:
    """Whether a value is one of those that are known, of the same type."""
    return any(_alike(value, one) for one in known)


def _alike(value: Any, known: Any) -> bool:
    equal = value == known or (value != value and known != known)  # not a number is itself
    return type(value) is type(known) and bool(equal)


_HOLDS: dict[FactKind, Callable[[Fact, Any, Mapping[int, Any]], bool]] = {
    FactKind.EQUAL: _equal,
    FactKind.SAME: _same,
    FactKind.TYPE: lambda fact, value, _: type(value) is fact.value,
    FactKind.LENGTH: lambda fact, value, _: len(value) == fact.value,
    FactKind.KEYS: lambda fact, value, _: tuple(value) == fact.value,
    FactKind.HAS_KEY: lambda fact, value, _: (fact.key in value) is fact.value,
    FactKind.HAS_ATTRIBUTE: lambda fact, value, _: hasattr(value, fact.key) is fact.value,
    FactKind.OVERRIDES: lambda fact, value, _: (fact.key in value.__dict__) is fact.value,
    FactKind.ALIAS: lambda fact, value, values: values.get(fact.key) is value,
    FactKind.AMONG: lambda fact, value, _: among(value, fact.value),
    FactKind.CONDITION: lambda fact, _, values: bool(fact.value.value(values)),
    FactKind.TENSOR: lambda *_: True,
    FactKind.TIED: lambda *_: True,
}


def is_plain(value: Any) -> bool:
    """Whether a value is compared by what it is worth: numbers, texts, tuples of them."""
    if isinstance(value, slice):
        return is_plain((value.start, value.stop, value.step))
    if isinstance(value, range):
        return True
    if isinstance(value, _PLAIN_TREES):
        parts: Any = value
        return all(map(is_plain, parts))
    return isinstance(value, _PLAIN)


def is_code(value: Any) -> bool:
    """Whether a value is compared by being the same: functions and classes."""
    return isinstance(value, _CODE)
