"""What a training step allocates and frees, in order: tensor by tensor, as the runtime does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pebble.budget import Footprint
from pebble.graph import Graph, Phase
from pebble.schedule import Schedule, retention

OPTIMIZER_STATE = "optimizer state"
_STORED = ("parameters", "buffers", "inputs", "constants")
"""Kinds whose tensors are the external values of the graph."""
_LIKE_GRADIENTS = ("accumulated gradients", "gradient buckets")


class Event(NamedTuple):
    """A tensor is made, or freed where its size is 0."""

    tensor: int
    size: int


@dataclass(frozen=True)
class TrainingEvents:
    """The allocations of a training loop by a schedule.

    Attributes
    ----------
    resident : tuple of int
        Sizes of the tensors that are there before the first step and stay: parameters, buffers
        and inputs one by one, then what else no schedule changes.
    step : tuple of Event
        Forward and backward. What is not freed in it is held until the optimizer has stepped.
    held : tuple of int
        Tensors of `step` that the caller holds: outputs and gradients.
    optimizer_state : tuple of int
        Sizes of the tensors that the first step of the optimizer makes and keeps.
    temporaries : tuple of int
        Sizes of those that each of its steps makes and frees.
    """

    resident: tuple[int, ...]
    step: tuple[Event, ...]
    held: tuple[int, ...]
    optimizer_state: tuple[int, ...]
    temporaries: tuple[int, ...]


def training_events(step: Footprint, schedule: Schedule) -> TrainingEvents:
    """The allocations of a training loop by a schedule.

    An op makes its results, then its workspace; when it is over, the workspace and what it read
    last are freed. Tensors whose sizes are known only as a sum (optimizer state, temporaries of
    its step) are taken to be as large, one to another, as the gradients are.

    Raises
    ------
    InvalidSchedule
        If the schedule breaks a rule of the graph.
    """
    graph, resident = step.graph, step.resident
    gradients = _gradient_sizes(graph)
    events, held = _forward_and_backward(graph, schedule)
    pinned = int(graph.arrays.size[graph.arrays.pinned].sum())
    temporaries = max(resident.optimizer_step_peak - resident.total - pinned, 0)
    return TrainingEvents(
        resident=tuple(_resident_sizes(step, gradients)),
        step=tuple(events),
        held=tuple(held),
        optimizer_state=tuple(_shares(resident.kinds.get(OPTIMIZER_STATE, 0), gradients)),
        temporaries=tuple(_shares(temporaries, gradients)),
    )


def _forward_and_backward(graph: Graph, schedule: Schedule) -> tuple[list[Event], list[int]]:
    order, size = schedule.order, graph.arrays.size.tolist()
    pinned = graph.arrays.pinned.tolist()
    workspace = graph.arrays.workspace.tolist()
    kept = retention(graph, schedule)
    begun: list[list[int]] = [[] for _ in order]
    ended: list[list[int]] = [[] for _ in order]
    held = []
    last = len(order) - 1
    copies = zip(kept.value.tolist(), kept.start.tolist(), kept.end.tolist())
    made_first: set[int] = set()
    sizes = []
    for copy, (v, start, end) in enumerate(copies):
        sizes.append(size[v])
        if not size[v]:
            continue
        begun[start].append(copy)
        if pinned[v] and v not in made_first:
            made_first.add(v)
            held.append(copy)
        else:
            ended[min(end, last)].append(copy)
    events = []
    for t, op in enumerate(order):
        events += [Event(copy, sizes[copy]) for copy in begun[t]]
        if workspace[op]:
            tensor = len(sizes) + t
            events += [Event(tensor, workspace[op]), Event(tensor, 0)]
        events += [Event(copy, 0) for copy in ended[t]]
    return events, held


def _gradient_sizes(graph: Graph) -> list[int]:
    """Sizes of the gradients: what the backward makes for others than its own ops."""
    a = graph.arrays
    unread = a.use_ptr[1:] == a.use_ptr[:-1]
    return [
        int(a.size[v])
        for i, op in enumerate(graph.ops)
        if op.phase is Phase.BACKWARD and i != graph.boundary
        for v in op.outputs
        if a.size[v] and (a.pinned[v] or unread[v])
    ]


def _resident_sizes(step: Footprint, gradients: Sequence[int]) -> list[int]:
    kinds = dict(step.resident.kinds)
    kinds.pop(OPTIMIZER_STATE, None)
    room = sum(kinds.pop(kind, 0) for kind in _STORED)
    values = [value.size for value in step.graph.values if value.external and value.size]
    idle = room - sum(values)  # what the step does not touch; less than none: stored in fewer bits
    sizes = [*values, idle] if idle >= 0 else _shares(room, values)
    for kind, size in kinds.items():
        sizes += _shares(size, gradients) if kind in _LIKE_GRADIENTS else [size]
    return [size for size in sizes if size]


def _shares(total: int, like: Sequence[int]) -> list[int]:
    """Tensors of so many bytes together, as large one to another as those they belong to.

    Where there are several times as many bytes, each of those has several tensors.
    """
    whole = sum(like)
    if not whole or not total:
        return [total] if total else []
    each = max(round(total / whole), 1)
    sizes = [total * size // (whole * each) for size in like for _ in range(each)]
    sizes[sizes.index(max(sizes))] += total - sum(sizes)
    return [size for size in sizes if size]
