"""Memory of a whole training step, by kind and by phase, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pebble.errors import InvalidArgument
from pebble.finetune.named_models import dtype_of, under_autocast
from pebble.finetune.variants import frozen_or_error, packed_bytes
from pebble.measure.memory import StepMemory, step_memory, trainable
from pebble.measure.optimizers import OptimizerMemory, Weight, optimizer_memory
from pebble.measure.weights import dequantised_bytes
from pebble.measure.workspaces import measure_workspaces
from pebble.plan.plan import live_kinds
from pebble.plan.report import gigabytes, table
from pebble.referee import Trace, simulate
from pebble.schedule import Schedule
from pebble.tracing import Captured, capture
from pebble.tracing.accumulation import accumulated
from pebble.tracing.inputs import make_inputs

if TYPE_CHECKING:
    from pebble.graph import Graph

Kinds = Mapping[str, int]


class Buckets(StrEnum):
    """How DistributedDataParallel keeps its gradient buckets."""

    COPIES = "copies"  # the default: buckets beside the gradients
    VIEWS = "views"  # gradient_as_bucket_view=True: the gradients are the buckets


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
class Estimate:
    """Memory of a training step.

    Attributes
    ----------
    moments : tuple of Moment
        Fullest moment of each phase, of the first step and of later steps.
    overhead : mapping
        Named terms outside torch's allocator (CUDA context); not in `peak`.
    host : int
        Bytes of optimizer state in the host's memory (paged optimizers).
    workspace_measured : bool
        False on fake tensors: op-internal temporaries count as 0.
    """

    moments: tuple[Moment, ...]
    overhead: Kinds = field(default_factory=dict)
    host: int = 0
    workspace_measured: bool = True

    @property
    def peak(self) -> int:
        """Bytes of the fullest moment of all; what a budget for the step has to hold."""
        return max(moment.total for moment in self.moments)

    @property
    def peak_moment(self) -> Moment:
        """The fullest moment of all."""
        return max(self.moments, key=lambda moment: moment.total)

    def moment(self, phase: str, *, first: bool = False) -> Moment:
        """The fullest moment of a phase."""
        return next(m for m in self.moments if (m.phase, m.first) == (phase, first))

    def __str__(self) -> str:
        kinds = list(dict.fromkeys(kind for m in self.moments for kind in m.kinds))
        header = ["", *(f"{m.phase}{' (first)' if m.first else ''}" for m in self.moments)]
        rows = [
            [kind, *(gigabytes(m.kinds.get(kind, 0)) for m in self.moments)]
            for kind in kinds
            if any(m.kinds.get(kind) for m in self.moments)
        ]
        rows.append(["total", *(gigabytes(m.total) for m in self.moments)])
        notes = [f"outside the budget: {name} {gigabytes(n)}" for name, n in self.overhead.items()]
        if self.host:
            notes.append(f"in the host's memory: optimizer state {gigabytes(self.host)}")
        if not self.workspace_measured:
            notes.append("op-internal temporaries are not measured on fake tensors")
        return "\n".join([table(header, rows), *notes])


def estimate(
    model: nn.Module,
    inputs: Any = None,
    *,
    loss: Callable[[Any], torch.Tensor] | None = None,
    optimizer: str | torch.optim.Optimizer | None = "adamw",
    implementation: str | None = None,
    state_dtype: str | None = None,
    master_weights: bool = False,
    gradient_dtype: str | None = None,
    autocast: str | None = None,
    quantize: str | None = None,
    accumulate: int = 1,
    ddp: str | None = None,
    overhead: Kinds | None = None,
    schedule: Schedule | None = None,
    captured: Captured | None = None,
    batch_size: int | None = None,
    seq_len: int | None = None,
) -> Estimate:
    """Memory of a training step of a model, on real or fake tensors.

    Parameters
    ----------
    model, inputs, loss, batch_size, seq_len
        As in `pebble.optimize`. Frozen parameters have neither gradient nor state.
    optimizer : str, torch.optim.Optimizer or None
    implementation : "for-loop", "foreach" or "fused", optional
        Of torch's optimizers; default: what torch picks on the device.
    state_dtype : "fp32", "bf16" or "fp16", optional
        Of the optimizer's state where it is not the parameters' own.
    master_weights : bool
        The optimizer keeps an fp32 copy of every trainable parameter (and state to match).
    gradient_dtype : "fp32", "bf16" or "fp16", optional
        In which gradients are kept, where that is not the parameters' own: each is converted and
        added as soon as it is made.
    autocast : "bf16" or "fp16", optional
        The step runs under autocast of this dtype; weights stay what they are.
    quantize : "int8", "4bit" or "4bit-double", optional
        Frozen weights of linear layers (the output head left out) are stored so; one of them at a
        time exists in its own dtype.
    accumulate : int
        Micro-batches a step: from the second on, the gradients so far are there as well, and
        each new one is added to its own as soon as it is made.
    ddp : "copies" or "views", optional
        Gradient buckets of DistributedDataParallel, as it makes them by default or with
        ``gradient_as_bucket_view=True``.
    overhead : mapping, optional
        Named terms outside torch's allocator; default: measured on a CUDA device.
    schedule : Schedule, optional
        Of the captured graph; default: everything is kept.
    captured : Captured, optional
        A capture of this model, to save time; one that accumulates gradients counts as such.

    Raises
    ------
    InvalidArgument
        If an option is unknown (lists the choices) or nothing can be quantised.
    CaptureError, InputsRequired

    Examples
    --------
    >>> import torch
    >>> from pebble.finetune.estimates import estimate
    >>> step = estimate(torch.nn.Linear(1000, 1000, bias=False), torch.ones(1, 1000))
    >>> step.moment("optimizer step").kinds["optimizer state"]
    8000004
    """
    _check(accumulate, ddp)
    if captured is not None and captured.accumulates:  # a plan's, from the second micro-batch on
        accumulate = max(accumulate, 2)
    if captured is None:
        found = make_inputs(model, inputs, batch_size=batch_size, seq_len=seq_len)
        with under_autocast(found.tensors(), autocast):
            captured = capture(model, found.args, found.kwargs, loss=loss)
    memory = step_memory(captured, optimizer=optimizer, implementation=implementation, model=model)
    memory = _with_state(memory, captured, optimizer, implementation, state_dtype, master_weights)
    resident = dict(memory.kinds)
    state = {"optimizer state": resident.pop("optimizer state", 0)}
    if master_weights:
        state["master weights"] = 4 * sum(w.numel for w in _weights(captured))
    if quantize is not None:
        resident |= _quantised(model, resident["parameters"], quantize)
    if gradient_dtype is not None:
        width = dtype_of(gradient_dtype).itemsize
        memory = replace(memory, gradients=width * sum(w.numel for w in _weights(captured)))
    if ddp is not None:
        resident["DDP buckets"] = memory.gradients
    if (accumulate > 1 or gradient_dtype is not None) and ddp != Buckets.VIEWS:
        resident["accumulated gradients"] = memory.gradients
    if accumulate > 1 or gradient_dtype is not None:
        captured = accumulated(captured)
    workspaces = measure_workspaces(captured)
    graph = captured.graph.with_measures(workspaces=workspaces.bytes)
    trace = simulate(graph, schedule or Schedule.keep_all(graph))
    moments = _moments(graph, trace, memory, resident, state, ddp)
    return Estimate(
        moments=moments,
        overhead=dict(memory.overhead if overhead is None else overhead),
        host=memory.optimizer.host,
        workspace_measured=workspaces.measured,
    )


def _check(accumulate: int, ddp: str | None) -> None:
    if ddp is not None and ddp not in list(Buckets):
        raise InvalidArgument(f"ddp={ddp!r} is not known; choose one of {', '.join(Buckets)}.")
    if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
        raise InvalidArgument(
            f"accumulate={accumulate!r} must be a positive number of micro-batches."
        )


# -- phases --------------------------------------------------------------------------------------


def _moments(
    graph: Graph,
    trace: Trace,
    memory: StepMemory,
    resident: Kinds,
    state: Kinds,
    ddp: str | None,
) -> tuple[Moment, ...]:
    """Fullest moment of each phase; without an optimizer there are two, alike in every step."""
    end = trace.forward_steps
    halves = {"forward": slice(0, end), "backward": slice(end, len(trace.live))}
    live = {
        phase: _live(graph, trace, span) for phase, span in halves.items() if span.start < span.stop
    }
    steps = memory.optimizer.name != "none"
    moments: list[Moment] = []
    for first in (True, False) if steps else (False,):
        kept = {**resident, **({} if first else state)}
        moments.extend(Moment(phase, first, {**kept, **kinds}) for phase, kinds in live.items())
        if steps:
            kinds = {**resident, **state, "outputs": memory.outputs}
            for gone in ("accumulated gradients", "unpacked weight"):
                kinds.pop(gone, None)
            if ddp != Buckets.VIEWS:
                kinds["gradients"] = memory.gradients
            kinds["optimizer temporaries"] = memory.optimizer.temporaries
            moments.append(Moment("optimizer step", first, kinds))
    return tuple(moments)


def _live(graph: Graph, trace: Trace, span: slice) -> Kinds:
    at = span.start + int(trace.live[span].argmax())
    return live_kinds(graph, replace(trace, peak=int(trace.live[at]), peak_step=at))


# -- weights and optimizer -----------------------------------------------------------------------


def _weights(captured: Captured) -> list[Weight]:
    likes = [slot.node.meta["val"] for slot in trainable(captured)]
    return [Weight(tuple(t.shape), t.dtype, tuple(t.stride())) for t in likes]


def _with_state(
    memory: StepMemory,
    captured: Captured,
    optimizer: str | torch.optim.Optimizer | None,
    implementation: str | None,
    state_dtype: str | None,
    master_weights: bool,
) -> StepMemory:
    """The optimizer's state in another dtype than the parameters'."""
    if master_weights and state_dtype is None:
        state_dtype = "fp32"
    if state_dtype is None or optimizer is None:
        return memory
    if not isinstance(optimizer, str):
        raise InvalidArgument(
            "state_dtype= and master_weights= need the name of an optimizer: a "
            f"{type(optimizer).__name__} object has a state of its own."
        )
    weights = [replace(w, dtype=dtype_of(state_dtype)) for w in _weights(captured)]
    other: OptimizerMemory = optimizer_memory(
        optimizer, weights, device=captured.device, implementation=implementation
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
