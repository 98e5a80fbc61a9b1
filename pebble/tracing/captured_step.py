"""A step is captured, then its loss is split, then its gradients are added up: in this order.

Whoever makes a captured step, for a plan, an estimate, another batch, a file or a back end, makes
it here.
"""

from __future__ import annotations

from typing import Any

from pebble.options import StepOptions
from pebble.tracing.accumulation import accumulated
from pebble.tracing.captured import Captured
from pebble.tracing.chunked_loss import chunk_loss
from pebble.tracing.inputs import Inputs
from pebble.tracing.step_capture import capture


def capture_step(model: Any, inputs: Inputs, options: StepOptions) -> Captured:
    """Trace a model's step as it is asked for.

    Raises
    ------
    CaptureError, InvalidArgument
    """
    captured = capture(
        model,
        inputs.args,
        inputs.kwargs,
        loss=options.loss,
        loss_only=options.outputs == "loss",
    )
    return transformed(captured, options)


def transformed(captured: Captured, options: StepOptions) -> Captured:
    """A captured step with its loss in chunks and its gradients added up, as asked for.

    Raises
    ------
    InvalidArgument
        If the step has no loss that can be split so; says what stands in the way.
    """
    if options.chunks:
        captured = chunk_loss(captured, options.chunks)
    return accumulated(captured) if options.accumulates else captured
