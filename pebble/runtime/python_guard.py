"""The Python values that a plan was made for, read again at every call."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pebble.errors import PlanMismatch
from pebble.runtime.python_sentences import difference, name_of
from pebble.runtime.tensor_spec import TensorSpec, mismatch
from pebble.tracing.captured import Captured
from pebble.tracing.python_reads import BASE, Fact, FactKind, Method, PythonReads, among, holds
from pebble.tracing.python_writes import PythonWrites
from pebble.tracing.signature import Slot

_CHECKS = {
    FactKind.SAME: "getattr({v}, '__func__', {v}) is not {e}",
    FactKind.TYPE: "type({v}) is not {e}",
    FactKind.LENGTH: "len({v}) != {e}",
    FactKind.KEYS: "tuple({v}) != {e}",
    FactKind.HAS_KEY: "({k} in {v}) is not {e}",
    FactKind.HAS_ATTRIBUTE: "hasattr({v}, {k}) is not {e}",
    FactKind.OVERRIDES: "({k} in {v}.__dict__) is not {e}",
    FactKind.ALIAS: "{v} is not {k}",
    FactKind.AMONG: "not among({v}, {e})",
    FactKind.CONDITION: "not ({e})",
}
_GONE = (AttributeError, LookupError, TypeError, ValueError, NameError)


@dataclass(frozen=True)
class PythonGuard:
    """What the forward has read of Python, for models of one kind.

    Attributes
    ----------
    reads : PythonReads
    run : callable
        From a model to the index of the first fact that no longer holds, or to the values of
        `wanted`.
    wanted : tuple of (place, TensorSpec)
        Tensors that are no parameters, buffers or inputs.
    fed : tuple of int
        Which of `wanted` the step takes, in slot order.
    tied : tuple of (place, int)
        Places that hold a parameter or buffer, and its position among those of the step.
    modules : frozenset of str
        Names of the model's modules.
    writes : PythonWrites
        What a step sets on the model.
    sources : tuple of int
        The places that `writes` needs.
    read_sources : callable
        From a model to the values of `sources`.
    """

    reads: PythonReads
    run: Callable[[nn.Module], Any]
    wanted: tuple[tuple[int, TensorSpec], ...]
    fed: tuple[int, ...]
    tied: tuple[tuple[int, int], ...]
    modules: frozenset[str]
    writes: PythonWrites
    sources: tuple[int, ...]
    read_sources: Callable[[nn.Module], Any]

    @classmethod
    def of(cls, model: nn.Module, captured: Captured, held: Sequence[Slot]) -> PythonGuard:
        """The guard of a captured step, `held` being the parameters and buffers that it takes."""
        reads = captured.reads
        modules = frozenset(name for name, _ in model.named_modules(remove_duplicate=False) if name)
        slots = [slot for slot in captured.slots if slot.fed and slot.place is not None]
        wanted: dict[int, TensorSpec] = {}
        for slot in slots:
            name = name_of(reads, slot.place or 0, modules)
            wanted[slot.place or 0] = TensorSpec.like(slot.node.meta["val"], "", False, name)
        values = reads.values(model)
        position = {name: i for i, slot in enumerate(held) for name in (slot.name, *slot.aliases)}
        tied = []
        for fact in reads.facts:
            tensor = values.get(fact.place)
            if fact.kind is FactKind.TENSOR and fact.place not in wanted:
                if isinstance(tensor, torch.Tensor):
                    name = name_of(reads, fact.place, modules)
                    wanted[fact.place] = TensorSpec.like(tensor, "", tensor.requires_grad, name)
            elif fact.kind is FactKind.TIED and fact.value in position:
                tied.append((fact.place, position[fact.value]))
        order = list(wanted)
        fed = tuple(order.index(slot.place or 0) for slot in slots)
        sources = captured.writes.places()
        return cls(
            reads,
            _Source(reads).write([*order, *(place for place, _ in tied)], reads.facts),
            tuple(wanted.items()),
            fed,
            tuple(tied),
            modules,
            captured.writes,
            sources,
            _Source(reads).write(sources, ()),
        )

    def touched(self, model: nn.Module) -> dict[int, Any]:
        """The objects whose attributes a step sets, and what their values are made of."""
        return dict(zip(self.sources, self.read_sources(model)))

    def match(self, model: nn.Module, held: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors that the step takes besides parameters, buffers and inputs.

        Raises
        ------
        PlanMismatch
            If a value is not what it was: names it, what it was, and what it is.
        """
        for method in self.reads.methods:
            _check_method(method)
        try:
            found = self.run(model)
        except _GONE:
            found = -1
        if isinstance(found, int):
            raise self._explain(model, found)
        for (_, spec), tensor in zip(self.wanted, found):
            spec.check(tensor)
        for (place, i), tensor in zip(self.tied, found[len(self.wanted) :]):
            if tensor is not held[i]:
                name = name_of(self.reads, place, self.modules)
                raise mismatch(f"{name} was a parameter or buffer at planning", ", but is another.")
        return [found[i] for i in self.fed]

    def _explain(self, model: nn.Module, index: int) -> PlanMismatch:
        """The sentence about the first fact that does not hold."""
        values = self.reads.values(model)
        facts = self.reads.facts
        for fact in facts if index < 0 else (facts[index], *facts):
            if fact.place not in values or not holds(fact, values):
                return mismatch(*difference(self.reads, fact, values, self.modules))
        for place, spec in self.wanted:
            if place not in values:
                return mismatch(f"{spec.label} was a tensor at planning", ", but is gone.")
        return mismatch("A value that the forward reads was there at planning", ", but is gone.")


def _check_method(method: Method) -> None:
    held = method.owner.__dict__.get(method.name)
    what = f"{method.name!r} of the class {method.owner.__name__}"
    if held is not method.function:
        raise mismatch(f"{what} was replaced after planning.", "")
    plain = getattr(held, "fget", None) or getattr(held, "__func__", held)
    now = getattr(plain, "__defaults__", None)
    if now is not method.defaults and now != method.defaults:
        raise mismatch(f"{what} had the defaults {method.defaults}", f", but has {now}.")


class _Source:
    """Python text that reads every place once and checks every fact there."""

    def __init__(self, reads: PythonReads) -> None:
        self.reads = reads
        self.names: dict[str, Any] = dict(reads.helpers or {})
        self.names |= {"G": reads.global_values, "C": reads.cells, "among": among}

    def write(self, wanted: Sequence[int], facts: Sequence[Fact]) -> Callable[[nn.Module], Any]:
        places = self.reads.places
        needed = set(wanted) | {fact.place for fact in facts if fact.kind in _CHECKED}
        needed |= {fact.key for fact in facts if fact.kind is FactKind.ALIAS}
        for fact in facts:
            if fact.kind is FactKind.CONDITION:
                needed |= {place for _, place in fact.value.symbols}
        for i in reversed(range(len(places))):
            if i in needed and places[i].base is not None:
                needed.add(places[i].base or 0)
        by_place: dict[int, list[int]] = {}
        for i, fact in enumerate(facts):
            if fact.kind in _CHECKED:
                by_place.setdefault(fact.place, []).append(i)
        lines = ["def run(root):"]
        for i in sorted(needed):
            step = places[i].step
            if step == "bound":
                self.names[f"p{i}"] = places[i].bound
                continue
            lines.append(f" p{i} = {step.replace(BASE, f'p{places[i].base}')}")
            for k in by_place.get(i, ()):
                lines.append(f" if {self._differs(k, facts[k])}: return {k}")
        lines.append(f" return ({''.join(f'p{i}, ' for i in wanted)})")
        exec(compile("\n".join(lines), "<pebble guards>", "exec"), self.names)  # our own text
        run: Callable[[nn.Module], Any] = self.names["run"]
        return run

    def _differs(self, k: int, fact: Fact) -> str:
        v = f"p{fact.place}"
        if fact.kind is FactKind.EQUAL:
            value = fact.value
            if value is None or value is True or value is False:
                return f"{v} is not {value}"
            kind = self._name(f"t{k}", type(value))
            expected = self._name(f"e{k}", value)
            differs = f"type({v}) is not {kind} or {v} != {expected}"
            return differs if value == value else f"type({v}) is not {kind} or {v} == {v}"
        if fact.kind is FactKind.CONDITION:
            text = fact.value.text
            for symbol, place in fact.value.symbols:
                text = re.sub(rf"\b{symbol}\b", f"p{place}", text)
            return _CHECKS[fact.kind].format(e=text)
        key = f"p{fact.key}" if fact.kind is FactKind.ALIAS else self._name(f"k{k}", fact.key)
        return _CHECKS[fact.kind].format(v=v, e=self._name(f"e{k}", fact.value), k=key)

    def _name(self, name: str, value: Any) -> str:
        self.names[name] = value
        return name


_CHECKED: Mapping[FactKind, Any] = {FactKind.EQUAL: None, **_CHECKS}
