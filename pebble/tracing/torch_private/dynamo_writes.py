"""dynamo's side effects: which attributes a forward sets, and to what."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from pebble.tracing.python_reads import is_code, is_plain
from pebble.tracing.python_writes import Made


@dataclass(frozen=True)
class Symbolic:
    """Stands for a number that dynamo follows as a symbol: its sympy expression."""

    expression: Any


@dataclass
class Effects:
    """What a traced forward did to Python objects.

    Attributes
    ----------
    told : list of str
        What dynamo warned of.
    attributes : list of (source, name, value)
        Attributes that were set; tensors of the value are `Made`, whose position is that of
        `nodes`, numbers that have a symbol `Symbolic`.
    nodes : list of str
        Names of the graph's nodes.
    lost : set of str
        Names of the objects that were changed in ways that cannot be repeated.
    restored : set of str
        Names of the dictionaries that hold in the end what they held before.
    """

    told: list[str] = field(default_factory=list)
    attributes: list[tuple[Any, str, Any]] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    restored: set[str] = field(default_factory=set)

    def read(self, side_effects: Any) -> None:
        """Take down what dynamo knows when the graph is finished; what was known before is old."""
        self.attributes, self.nodes, self.lost, self.restored = [], [], set(), set()
        for variable in side_effects._get_modified_vars():
            source = getattr(variable, "source", None)
            if source is None or type(source).__name__ == "TempLocalSource":
                continue  # made in the forward
            name = source.name() if callable(source.name) else source.name
            changed = side_effects.store_attr_mutations.get(variable, {})
            if _holds_what_it_held(variable):
                self.restored.add(name)
            elif not changed:
                self.lost.add(name)
            for attribute, value in changed.items():
                try:
                    self.attributes.append((source, attribute, self._value(value)))
                except Exception:
                    self.lost.add(name)

    def _value(self, variable: Any) -> Any:
        if hasattr(variable, "realize"):
            variable = variable.realize()
        kind = type(variable).__name__
        if kind == "TensorVariable":
            self.nodes.append(variable.as_proxy().node.name)
            return Made(len(self.nodes) - 1)
        if kind == "SymNodeVariable" and isinstance(variable.sym_num, torch.SymInt):
            return Symbolic(variable.sym_num.node.expr)
        if kind in ("TupleVariable", "ListVariable"):
            return variable.python_type()(map(self._value, variable.items))
        if kind == "ConstDictVariable":
            return {
                key.vt.as_python_constant(): self._value(value)
                for key, value in variable.items.items()
            }
        if not variable.is_python_constant():
            raise _Unknown
        value = variable.as_python_constant()
        if not (is_plain(value) or is_code(value)):
            raise _Unknown
        return value


def _holds_what_it_held(variable: Any) -> bool:
    """Whether a dictionary was changed and changed back, as `torch.func.functional_call` does."""
    if type(variable).__name__ != "ConstDictVariable":
        return False
    before = {getattr(key, "vt", key): value for key, value in variable.original_items.items()}
    now = {key.vt: value for key, value in variable.items.items()}
    return list(before) == list(now) and not any(
        variable.is_new_item(before[key], value) for key, value in now.items()
    )


class _Unknown(Exception):
    """A value that cannot be made again."""


class Ear:
    """The module `warnings`, but what is warned of is taken down, with what it is about."""

    def __init__(self, effects: Effects) -> None:
        self.effects = effects

    def warn(self, message: Any, *_: Any, **__: Any) -> None:
        """Take it down."""
        self.effects.told.append(str(message))
        speaker: Any = sys._getframe(1).f_locals.get("self")
        if "side effects" in str(message) and hasattr(speaker, "side_effects"):
            self.effects.read(speaker.side_effects)

    def __getattr__(self, name: str) -> Any:
        return getattr(warnings, name)


def hand_out(graph: fx.Graph, names: list[str]) -> tuple[int, ...] | None:
    """Let the graph return the nodes of these names, too.

    Returns
    -------
    tuple of int or None
        Their positions among the results; None if one is not there.
    """
    by_name = {node.name: node for node in graph.nodes}
    if not all(name in by_name and "example_value" in by_name[name].meta for name in names):
        return None
    output = graph.output_node()
    results: list[Any] = list(output.args[0])  # type: ignore[arg-type]
    position = {node: i for i, node in reversed(list(enumerate(results)))}
    for name in names:
        if by_name[name] not in position:
            position[by_name[name]] = len(results)
            results.append(by_name[name])
    output.args = (tuple(results),)
    return tuple(position[by_name[name]] for name in names)
