"""dynamo: the forward of a model as one graph of torch calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from pebble.errors import CaptureError
from pebble.tracing.python_reads import PythonReads
from pebble.tracing.python_writes import PythonWrites
from pebble.tracing.torch_private.dynamo_frame import Frame, after_writes, loosened


@dataclass(frozen=True)
class ForwardTrace:
    """What a model's forward does, as one graph of torch calls.

    Attributes
    ----------
    graph_module : fx.GraphModule
        One placeholder per entry of `tensors`; returns a flat tuple of tensors.
    tensors : tuple of Tensor
        The tensors (parameters, buffers, inputs, constants: the model's and caller's own objects)
        that the placeholders stand for.
    examples : tuple of Tensor
        Fake tensors, one per result of the graph.
    rebuild : callable
        From one tensor per result to the object that the model returns.
    fake_mode : FakeTensorMode
    forget_call : callable
        Lets go of the traced call's inputs; `rebuild` cannot be called after it.
    side_effects : tuple of str
        Python state that the forward changes and the graph does not.
    symbol : str or None
        Line that makes the first number or size that depends on data ("" if unknown).
    reads : PythonReads
        The Python state that the graph depends on.
    places : tuple of int or None
        Where `reads` finds each of `tensors`; None for an input.
    writes : PythonWrites
        The attributes that the forward sets.
    written : tuple of int
        Which results of the graph are the tensors that `writes` sets.
    lost : tuple of str
        Objects that the forward changes in ways that no step repeats.
    """

    graph_module: fx.GraphModule
    tensors: tuple[torch.Tensor, ...]
    examples: tuple[torch.Tensor, ...]
    rebuild: Callable[[Sequence[Any]], Any]
    fake_mode: Any
    forget_call: Callable[[], None]
    side_effects: tuple[str, ...] = ()
    symbol: str | None = None
    reads: PythonReads = field(default_factory=PythonReads, repr=False)
    places: tuple[int | None, ...] = ()
    writes: PythonWrites = field(default_factory=PythonWrites, repr=False)
    written: tuple[int, ...] = ()
    lost: tuple[str, ...] = ()


def trace_forward(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ForwardTrace:
    """Trace the model's forward into one graph, running nothing."""
    frame = Frame.of(model, args, kwargs)
    counters = frame.counters
    if counters:
        # Followed as symbols: the graph is the same for all numbers that take the same branches.
        frame = Frame.of(model, args, kwargs, counters)
        if frame.takes_symbols():
            names = " and ".join(repr(name.rpartition(".")[2]) for name in counters)
            raise CaptureError(
                f"The forward of {type(model).__name__} counts in {names} and computes with the "
                "count, which is another graph at every step. Keep the count in a buffer and add "
                "to it in place (self.count.add_(1))."
            )
    if frame.writes.writes:
        later = _afterwards(frame, args, kwargs)
        if later is not None and frame.same_as(later):
            frame.reads = loosened(frame)
    return _trace(frame, (*args, *kwargs.values()))


def _afterwards(frame: Frame, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Frame | None:
    """The trace of the call that comes after the traced one; None if nothing is other then."""
    with after_writes(frame) as changed:
        if not changed:
            return None
        try:
            return Frame.of(frame.model, args, kwargs, frame.counters)
        except Exception:
            return None


def _trace(frame: Frame, call: tuple[Any, ...]) -> ForwardTrace:
    module = frame.module
    handed: Any = module.graph.output_node().args[0]
    returned = len(handed)
    positions = frame.result_positions()
    if positions is None:  # a tensor that the graph does not make
        frame.effects.lost.update(frame.reads.places[w.place].text for w in frame.writes.writes)
        positions, frame.writes = (), PythonWrites()
    results: Any = module.graph.output_node().args[0]
    codegen = module.graph._codegen  # holds the bytecode that flattens inputs, rebuilds outputs

    def rebuild(leaves: Sequence[Any]) -> Any:
        codegen.process_inputs(*call)
        return codegen.process_outputs(list(leaves)[:returned])

    def forget_call() -> None:
        nonlocal call
        call = ()
        frame.forget_call()

    told = [text for text in frame.effects.told if "side effects" in text]
    places = (place for text in told for place in re.findall(r"\"([^\"]+)\"", text))
    return ForwardTrace(
        module,
        frame.tensors,
        tuple(node.meta["example_value"] for node in results),
        rebuild,
        module.meta["fake_mode"],
        forget_call,
        tuple(place for place in places if place not in frame.effects.restored),
        _first_symbol(module.graph),
        frame.reads,
        frame.places,
        frame.writes,
        positions,
        tuple(sorted(frame.effects.lost)),
    )


def _first_symbol(graph: fx.Graph) -> str | None:
    for node in graph.nodes:
        made = node.meta.get("example_value")
        if isinstance(made, torch.Tensor):
            made = made.shape
        found = made if isinstance(made, (tuple, list)) else (made,)
        if any(isinstance(x, (torch.SymInt, torch.SymFloat, torch.SymBool)) for x in found):
            lines = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
            return ":".join(lines[-1]) if lines else ""
    return None
