"""What a step keeps, and its fullest moments: forward, backward and the optimizer's step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from pebble.budget import fullest_moment, live_kinds
from pebble.errors import InvalidArgument
from pebble.finetune.variants import frozen_or_error, packed_bytes
from pebble.measure.dtypes import dtype_of
from pebble.measure.memory import StepMemory, check_optimizer, step_memory, trainable
from pebble.measure.optimizers import OptimizerMemory, Weight, optimizer_memory
from pebble.measure.weights import dequantised_bytes
from pebble.ranks import Buckets
from pebble.referee import Trace
from pebble.tracing import Captured

if TYPE_CHECKING:
    from pebble.graph import Graph

Kinds = Mapping[str, int]


@dataclass(frozen=True)
class Moment:
    """The fullest moment of a phase.

    Attributes
    ----------
    phase : "forward", "backward" or "optimizer step"
    first : bool
        Whether of the first training step (no optimizer state yet) or of all later ones.
    kinds : mapping
        Bytes by kind.
    """

    phase: str
    first: bool
    kinds: Kinds

    @property
    def total(self) -> int:
        """Sum over the kinds."""
        return sum(self.kinds.values())


@dataclass(frozen=True)
class Storage:
    """In which forms weights, gradients and state are kept; see `pebble.estimate`."""

    implementation: str | None = None
    state_dtype: str | None = None
    master_weights: bool = False
    gradient_dtype: str | None = None
    quantize: str | None = None
    ddp: str | None = None


@dataclass(frozen=True)
class Kept:
    """What a step keeps beside the graph's own values.

    Attributes
    ----------
    memory : StepMemory
    resident : mapping
        Bytes by kind, there from the first step on.
    state : mapping
        The same of the optimizer, there from the end of the first step on.
    ddp : str or None
    """

    memory: StepMemory
    resident: Kinds
    state: Kinds
    ddp: str | None


def kept_by(
    captured: Captured,
    model: nn.Module,
    optimizer: str | torch.optim.Optimizer | None,
    storage: Storage,
    *,
    added_up: bool,
) -> Kept:
    """What a captured step keeps.

    Parameters
    ----------
    added_up : bool
        Whether gradients are added to those that are there.
    """
    check_optimizer(optimizer, model)
    implementation = storage.implementation
    memory = step_memory(captured, optimizer=optimizer, implementation=implementation, model=model)
    memory = _with_state(memory, captured, optimizer, storage)
    resident = dict(memory.kinds)
    state = {"optimizer state": resident.pop("optimizer state", 0)}
    trained = sum(w.numel for w in _weights(captured))
    if storage.master_weights:
        state["master weights"] = 4 * trained
    if storage.quantize is not None:
        resident |= _quantised(model, resident["parameters"], storage.quantize)
    if storage.gradient_dtype is not None:
        memory = replace(
            memory, gradients=dtype_of(storage.gradient_dtype, "gradient_dtype").itemsize * trained
        )
    if storage.ddp is not None:
        resident["DDP buckets"] = memory.gradients
    if added_up and storage.ddp != Buckets.VIEWS:
        resident["accumulated gradients"] = memory.gradients
    return Kept(memory, resident, state, storage.ddp)


def moments_of(graph: Graph, trace: Trace, kept: Kept) -> tuple[Moment, ...]:
    """Fullest moment of each phase; without an optimizer there are two, alike in every step."""
    memory = kept.memory
    end = trace.forward_steps
    halves = {"forward": slice(0, end), "backward": slice(end, len(trace.live))}
    live = {
        phase: _live(graph, trace, span) for phase, span in halves.items() if span.start < span.stop
    }
    steps = memory.optimizer.name != "none"
    moments: list[Moment] = []
    for first in (True, False) if steps else (False,):
        there = {**kept.resident, **({} if first else kept.state)}
        moments.extend(Moment(phase, first, {**there, **kinds}) for phase, kinds in live.items())
        if steps:
            kinds = {**kept.resident, **kept.state, "outputs": memory.outputs}
            for gone in ("accumulated gradients", "unpacked weight"):
                kinds.pop(gone, None)
            if kept.ddp != Buckets.VIEWS:
                kinds["gradients"] = memory.gradients
            kinds["optimizer temporaries"] = memory.optimizer.temporaries
            moments.append(Moment("optimizer step", first, kinds))
    return tuple(moments)


def _live(graph: Graph, trace: Trace, span: slice) -> Kinds:
    return live_kinds(graph, fullest_moment(trace, span))


def _weights(captured: Captured) -> list[Weight]:
    likes = [slot.node.meta["val"] for slot in trainable(captured)]
    return [Weight(tuple(t.shape), t.dtype, tuple(t.stride())) for t in likes]


def _with_state(
    memory: StepMemory,
    captured: Captured,
    optimizer: str | torch.optim.Optimizer | None,
    storage: Storage,
) -> StepMemory:
    """The optimizer's state in another dtype than the parameters'."""
    state_dtype = storage.state_dtype or ("fp32" if storage.master_weights else None)
    if state_dtype is None or optimizer is None:
        return memory
    if not isinstance(optimizer, str):
        raise InvalidArgument(
            "state_dtype= and master_weights= need the name of an optimizer: a "
            f"{type(optimizer).__name__} object has a state of its own."
        )
    weights = [replace(w, dtype=dtype_of(state_dtype, "state_dtype")) for w in _weights(captured)]
    other: OptimizerMemory = optimizer_memory(
        optimizer, weights, device=captured.device, implementation=storage.implementation
    )
    kinds = {**memory.kinds, "optimizer state": other.state}
    return replace(memory, kinds=kinds, optimizer=other)


def _quantised(model: nn.Module, parameters: int, form: str) -> dict[str, int]:
    """Parameters with the frozen linear weights quantised, and the one that is unpacked."""
    frozen = list(frozen_or_error(model, form).values())
    own = sum(w.numel() * w.itemsize for w in frozen)
    packed = sum(packed_bytes(w, form) for w in frozen)
    return {
        "parameters": parameters - own + packed,
        "unpacked weight": max(dequantised_bytes(w.numel(), w.itemsize) for w in frozen),
    }
