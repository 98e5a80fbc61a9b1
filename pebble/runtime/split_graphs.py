"""A captured graph and a schedule become two fx graphs that execute the schedule exactly."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import fx

from pebble.errors import InvalidSchedule
from pebble.referee import simulate
from pebble.runtime.half_writer import HalfWriter
from pebble.schedule import Schedule
from pebble.tracing.captured import Captured
from pebble.tracing.sparse_gradients import SparseGradient


@dataclass(frozen=True)
class Halves:
    """The two graphs of a planned step.

    Attributes
    ----------
    forward : fx.GraphModule
        Takes one tensor per placeholder slot of the captured graph, in slot order; returns the
        forward outputs, then what the backward half needs.
    backward : fx.GraphModule
        Takes what the forward half saved, then the tangents; returns one gradient (or None) per
        entry of `Captured.gradients`, in slot order; a sparse one where `Captured.sparse` has it.
    n_outputs : int
        How many of the forward's results are forward outputs.
    saved : tuple of fx.Node
        The nodes of the captured joint graph whose tensors cross the boundary: one per copy.
    copied : tuple of fx.Node
        Placeholders that the step overwrites and the backward half reads: their old contents
        cross the boundary as an extra copy that the graph does not know of.
    """

    forward: fx.GraphModule
    backward: fx.GraphModule
    n_outputs: int
    saved: tuple[fx.Node, ...]
    copied: tuple[fx.Node, ...]


def split(
    captured: Captured,
    schedule: Schedule,
    *,
    copy_idle: bool = False,
    hand_overs: bool = False,
) -> Halves:
    """Two graphs that execute the schedule step by step.

    An op that runs again has its nodes cloned; a read takes the most recent copy; a view is made
    anew from its base wherever that has a new copy, so that it never prolongs one. Nothing but
    last uses decides when a tensor is freed: the caller must pass arguments boxed.

    Parameters
    ----------
    captured : Captured
    schedule : Schedule
    copy_idle : bool
        Copy an input that the step overwrites also where its contents do not matter to the
        backward half: for a runtime that insists that nothing it saved has changed.
    hand_overs : bool
        Call `hand_over` on each gradient as soon as it is made, for a caller that adds it up
        there and then.

    Raises
    ------
    InvalidSchedule
        If the schedule breaks a rule of the graph.

    Notes
    -----
    Running statistics of a normalisation in training mode do not influence its other results, so
    it may run again after they were overwritten; every other placeholder that the step overwrites
    is copied in the forward half if the backward half reads it.
    """
    graph = captured.graph
    if graph.boundary is None:
        raise InvalidSchedule(
            f"Graph {graph.name!r} has no boundary op between its forward and its backward half, "
            "so no module can follow a schedule of it; capture the model with pebble.tracing."
        )
    simulate(graph, schedule)  # raises where a rule is broken
    order = schedule.order
    cut = order.index(graph.boundary)
    outer = HalfWriter(captured, None)
    for slot in captured.slots:
        if slot.fed:
            outer.place(slot.node)
    for op in order[:cut]:
        outer.execute(op)
    outputs = [outer.read(output.node) for output in captured.outputs]

    inner = HalfWriter(captured, outer, copy_idle=copy_idle)
    for tangent in captured.tangents:
        inner.place(tangent.node)
    slots = [s.node for s in captured.slots if s.node in captured.gradients]
    wanted = [captured.gradients[node] for node in slots]
    sparse = [captured.sparse.get(node) for node in slots]
    finished: dict[int, fx.Node] = {}
    left = _made_of(captured, wanted, sparse, set(order[:cut])) if hand_overs else {}
    for op in order[cut + 1 :]:
        inner.execute(op)
        for i in [i for i, ops in left.items() if op in ops]:
            left[i].discard(op)
            if not left[i]:
                finished[i] = inner.hand_over(inner.gradient(wanted[i], sparse[i]), i)
    gradients = [
        None if node is None else finished.get(i) or inner.gradient(node, sparse[i])
        for i, node in enumerate(wanted)
    ]

    forward = outer.finish([*outputs, *(copy for _, copy in inner.imports)], "PebbleForward")
    backward = inner.finish(gradients, "PebbleBackward")
    saved = tuple(node for node, _ in inner.imports)
    return Halves(forward, backward, len(outputs), saved, tuple(inner.copied))


def _made_of(
    captured: Captured,
    wanted: Sequence[fx.Node | None],
    sparse: Sequence[SparseGradient | None],
    before: Collection[int],
) -> dict[int, set[int]]:
    """Position of a gradient -> the ops of the backward half that have to run for it.

    A gradient that no op of it makes is left out.
    """
    producer = captured.graph.arrays.producer
    boundary = captured.graph.boundary
    found: dict[int, set[int]] = {}
    for i, (node, rest) in enumerate(zip(wanted, sparse)):
        nodes = [n for n in (node, None if rest is None else rest.indices) if n is not None]
        ops = {int(producer[captured.value_of[n]]) for n in nodes}
        ops = {op for op in ops if op >= 0 and op != boundary and op not in before}
        if ops:
            found[i] = ops
    return found
