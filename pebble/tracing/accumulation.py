"""A later micro-batch of a step: its gradients are added to those that are there already."""

from __future__ import annotations

from dataclasses import replace

from pebble.errors import CaptureError
from pebble.graph import Graph
from pebble.tracing.captured import Captured


def accumulated(captured: Captured) -> Captured:
    """The captured step as it runs from the second micro-batch on.

    Its gradients are not pinned: each one ends with its last reader, because it is added to the
    gradient that is there. Whoever counts bytes has to count those that are there as resident.

    Raises
    ------
    CaptureError
        If a gradient is sparse.
    """
    if captured.accumulates:
        return captured
    if captured.sparse:
        names = [repr(s.name) for s in captured.slots if s.node in captured.sparse]
        raise CaptureError(
            f"The gradient of {' and '.join(names)} is sparse, and a sum of sparse gradients grows "
            "with every micro-batch: a plan counts one backward for each step. Use sparse=False "
            "for the embedding, or accumulation_steps=1 and calls_in_flight=1."
        )
    graph = captured.graph
    gradients = {captured.value_of[g] for g in captured.gradients.values() if g is not None}
    held = {captured.value_of[output.node] for output in captured.outputs}
    values = [
        replace(value, pinned=value.pinned and (i in held or i not in gradients))
        for i, value in enumerate(graph.values)
    ]
    loose = Graph(graph.ops, values, name=graph.name, boundary=graph.boundary)
    return replace(captured, graph=loose, accumulates=True)
