"""One run of dynamo over a model's forward: the graph, what it has read, and what it writes."""

from __future__ import annotations

import contextlib
import itertools
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import torch
from torch import fx, nn

from pebble.errors import CaptureError
from pebble.tracing.python_reads import Fact, FactKind, Formula, PythonReads, is_plain
from pebble.tracing.python_writes import PythonWrites, Write, written
from pebble.tracing.torch_private.activation_marks import unmarked_activations
from pebble.tracing.torch_private.dynamo_reads import ReadsBuilder, name_of_source
from pebble.tracing.torch_private.dynamo_writes import Ear, Effects, Symbolic, hand_out
from pebble.tracing.torch_private.older_releases import give_builtins, sizes_from_tensors

# They assign the very tensor that was there, written to with ``out=``.
_IN_PLACE = "torch.nn.utils.parametrizations"


@dataclass
class Frame:
    """A traced forward.

    Attributes
    ----------
    model : nn.Module
    module : fx.GraphModule
    effects : Effects
    tensors : tuple of Tensor
        What the placeholders stand for.
    places : tuple of int or None
        Of `tensors`.
    reads : PythonReads
    writes : PythonWrites
    counters : tuple of str
        Names of whole numbers that the forward reads and sets anew.
    """

    model: nn.Module
    module: fx.GraphModule
    effects: Effects
    tensors: tuple[Any, ...]
    places: tuple[int | None, ...]
    reads: PythonReads
    writes: PythonWrites
    counters: tuple[str, ...]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        symbols: Sequence[str] = (),
    ) -> Frame:
        """Trace a call, numbers of these names as symbols."""
        effects = Effects()
        with _hearing(effects), unmarked_activations(), _followed(symbols):
            module = _capture(model, args, kwargs)
        codegen: Any = module.graph._codegen
        _leave_no_global(codegen)
        give_builtins(codegen)
        given = codegen.process_inputs(*args, *kwargs.values())
        frame = codegen.dynamo_bytecode_flatten.out.graph_capture_output
        builder = ReadsBuilder(frame, model)
        held = sizes_from_tensors(module.graph)
        tensors = tuple(itertools.compress(given, held))
        places = tuple(itertools.compress(builder.input_places(len(given)), held))
        writes, at = _writes(builder, effects)
        reads = builder.reads()
        counters = tuple(symbols) or _counters(reads, writes, at)
        return cls(model, module, effects, tensors, places, reads, writes, counters)

    def result_positions(self) -> tuple[int, ...] | None:
        """Which results of the graph the written tensors are; None if they cannot be had."""
        return hand_out(self.module.graph, self.effects.nodes)

    def forget_call(self) -> None:
        """Let go of the call that was traced; nothing of it can be run again through dynamo."""
        codegen: Any = self.module.graph._codegen
        capture = codegen.dynamo_bytecode_flatten.out
        codegen._inputs = codegen.dynamo_bytecode_flatten.gm_inputs = None
        capture.backend_input.example_inputs = []
        capture.graph_capture_output.output_graph.local_scope = {}

    def takes_symbols(self) -> bool:
        """Whether the graph computes with a number that dynamo follows as a symbol."""
        nodes = (n for n in self.module.graph.nodes if n.op == "placeholder")
        return any(isinstance(n.meta.get("example_value"), torch.SymInt) for n in nodes)

    def set_attributes(self) -> dict[str, Any]:
        """The values of what the forward sets, by name."""
        places = self.reads.places
        return {f"{places[w.place].text}.{w.attribute}": w.value for w in self.writes.writes}

    def same_as(self, later: Frame) -> bool:
        """Whether this trace and that of the call after it compute the same and end the same."""
        mine, theirs = self.set_attributes(), later.set_attributes()
        return (
            _form(self) == _form(later)
            and self.effects.lost == later.effects.lost
            and theirs.keys() <= mine.keys()
            and all(
                _same_values(value, theirs[name]) if name in theirs else is_plain(value)
                for name, value in mine.items()
            )
        )


def _form(frame: Frame) -> str:
    """What a graph computes of which tensors, whatever its nodes are called."""
    fed = iter(frame.tensors)
    number: dict[fx.Node, str] = {}
    lines = []
    for node in frame.module.graph.nodes:
        numbered: Any = lambda n: _Numbered(number[n])  # noqa: E731 as map_arg is typed
        given: Any = fx.map_arg((node.args, node.kwargs), numbered)
        what = id(next(fed, None)) if node.op == "placeholder" else node.target
        lines.append(f"{node.op} {what} {given}")
        number[node] = str(len(number))
    return "\n".join(lines)


@dataclass(frozen=True)
class _Numbered:
    number: str


def _same_values(a: Any, b: Any) -> bool:
    if isinstance(a, Formula) and isinstance(b, Formula):
        return a.text == b.text
    return type(a) is type(b) and bool(a == b)


def _capture(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.GraphModule:
    # Dynamo reads bytecode, so Python in the forward (loops, dataclasses, logging) is followed;
    # this entry point of it installs nothing in the model and leaves no compiled code behind.
    from torch._dynamo.functional_export import dynamo_graph_capture_for_export

    # It overwrites the graph it made with the model's own where the model is itself a graph.
    root = _Held(model) if isinstance(model, fx.GraphModule) else model
    try:
        module: fx.GraphModule = dynamo_graph_capture_for_export(root)(*args, **kwargs)
    except AssertionError as error:
        # torch 2.11 says it without a word: then the line that asserts it does.
        if "backend_input" not in f"{error} {traceback.extract_tb(error.__traceback__)[-1].line}":
            raise
        raise CaptureError(
            f"The forward of {type(model).__name__} computes nothing with these inputs. Pass "
            "the inputs that it trains on, and return a tensor."
        ) from error
    return module


def _leave_no_global(codegen: Any) -> None:
    """Take the graph out of the globals of the model's code, where dynamo leaves it for ever.

    It would keep the inputs of the traced call alive, and each trace would add another.
    """
    out = codegen.dynamo_bytecode_flatten.out
    out.graph_capture_output.f_globals.pop(out.backend_input.backend_id, None)


@contextlib.contextmanager
def _hearing(effects: Effects) -> Iterator[None]:
    # Python's filters are those of all threads: one that leaves `catch_warnings` (numba compiles in
    # a thread) would take ours away. So dynamo's module that warns is given an ear of our own.
    from torch._dynamo import output_graph

    with mock.patch.object(output_graph, "warnings", Ear(effects)):
        yield


@contextlib.contextmanager
def _followed(names: Sequence[str]) -> Iterator[None]:
    if not names:
        yield
        return
    compiler_config: Any = torch.compiler.config
    with (
        compiler_config.patch(dynamic_sources=",".join(names)),
        torch._dynamo.config.patch(allow_unspec_int_on_nn_module=True),
    ):
        yield


def _writes(builder: ReadsBuilder, effects: Effects) -> tuple[PythonWrites, dict[str, int | None]]:
    """The attributes that can be set again, and their own places by name; the others are lost."""
    found: list[Write] = []
    at: dict[str, int | None] = {}
    for source, attribute, value in effects.attributes:
        owner = name_of_source(source)
        place = builder.place(source)
        if place is None or owner in effects.lost:
            effects.lost.add(owner)
            continue
        if type(builder.values[place]).__module__ == _IN_PLACE:
            continue
        try:
            found.append(Write(place, attribute, _resolved(value, builder)))
        except LookupError:
            effects.lost.add(owner)
            continue
        at[f"{owner}.{attribute}"] = place
    return PythonWrites(tuple(found)), at


def _resolved(value: Any, builder: ReadsBuilder) -> Any:
    if isinstance(value, Symbolic):
        formula = builder.formula(value.expression)
        if formula is None:
            raise LookupError
        return formula
    if isinstance(value, (tuple, list)):
        return type(value)(_resolved(part, builder) for part in value)
    if isinstance(value, dict):
        return {key: _resolved(part, builder) for key, part in value.items()}
    return value


def _counters(
    reads: PythonReads, writes: PythonWrites, at: Mapping[str, int | None]
) -> tuple[str, ...]:
    known = {reads.places[f.place].text: f.value for f in reads.facts if f.kind is FactKind.EQUAL}
    found = []
    for write, name in zip(writes.writes, at):
        was = known.get(name)
        if type(was) is int and type(write.value) is int and was != write.value:
            found.append(name)
    return tuple(found)


class _Held(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._held = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._held(*args, **kwargs)


@contextlib.contextmanager
def after_writes(frame: Frame) -> Iterator[bool]:
    """The model as the call that was traced leaves it; afterwards as it was.

    Yields
    ------
    bool
        Whether anything is other than before.
    """
    values = frame.reads.values(frame.model)
    nodes = {node.name: node for node in frame.module.graph.nodes}
    tensors = [_stand_in(nodes.get(name)) for name in frame.effects.nodes]
    undo: list[tuple[Any, str, Any]] = []
    changed = False
    for write in frame.writes.writes:
        owner = values[write.place]
        before = getattr(owner, write.attribute, undo)
        after = written(write.value, values, tensors)
        undo.append((owner, write.attribute, before))
        same = before is after or (is_plain(before) and is_plain(after) and before == after)
        changed = changed or not same
        setattr(owner, write.attribute, after)
    try:
        yield changed
    finally:
        for owner, attribute, before in reversed(undo):
            if before is undo:
                delattr(owner, attribute)
            else:
                setattr(owner, attribute, before)


def _stand_in(node: fx.Node | None) -> torch.Tensor | None:
    """A tensor like the one that a node makes, of one element's memory."""
    made = None if node is None else node.meta.get("example_value")
    if not isinstance(made, torch.Tensor):
        return None
    return torch.zeros((), dtype=made.dtype, device=made.device).expand(made.shape)


def loosened(frame: Frame) -> PythonReads:
    """What a trace has read, where a value that it sets may be as before or as afterwards."""
    after = frame.set_attributes()
    owned = {(write.place, write.attribute) for write in frame.writes.writes}
    keyed = (FactKind.HAS_ATTRIBUTE, FactKind.OVERRIDES)
    facts = []
    for fact in frame.reads.facts:
        text = frame.reads.places[fact.place].text
        if fact.kind in keyed and (fact.place, fact.key) in owned:
            continue
        if text not in after or fact.kind is FactKind.CONDITION:
            facts.append(fact)
        elif fact.kind is FactKind.EQUAL and is_plain(after[text]):
            facts.append(Fact(fact.place, FactKind.AMONG, (fact.value, after[text])))
    return replace(frame.reads, facts=tuple(facts))
