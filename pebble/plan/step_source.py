"""Steps of a model at new shapes: from one trace of open sizes, else traced one by one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from pebble.errors import CaptureError, PlanMismatch
from pebble.measure.step import Step, step_of, trace
from pebble.measure.workspaces import Workspaces
from pebble.options import StepOptions
from pebble.runtime.guards import Guards
from pebble.tracing.captured import Captured
from pebble.tracing.dynamic_shapes import DynamicShapes
from pebble.tracing.inputs import Inputs
from pebble.tracing.open_dimensions import OpenSizes, SizeHistory
from pebble.tracing.step_form import StepForm
from pebble.tracing.symbolic_capture import SymbolicStep
from pebble.tracing.training_mode import training_mode

logger = logging.getLogger("pebble")

MOST_TRACES = 3
"""Symbolic traces of one model; what they do not cover is traced shape by shape."""
Known = Callable[[Captured], Workspaces | None]
"""What the values and temporaries of a captured step weigh, where that is known."""


class StepSource:
    """Traces the steps of one model, each as little as it must.

    The first shape is traced as it is. A second one that differs in nothing but sizes has those
    sizes left open; every further one that this trace holds for is put together from it.

    Parameters
    ----------
    options : StepOptions
    dynamic : DynamicShapes, optional
        The sizes to leave open, from the first call on. Default: those that are found to vary.

    Attributes
    ----------
    traces : int
        How often the model was traced.
    """

    def __init__(self, options: StepOptions, dynamic: DynamicShapes | None = None) -> None:
        self.options = options
        self.dynamic = dynamic
        self.traces = 0
        self._seen = SizeHistory()
        self._open: list[tuple[SymbolicStep, Guards]] = []
        self._refused = 0

    def step(
        self,
        model: nn.Module,
        inputs: Inputs,
        known: Known | None = None,
        room_bytes: int | None = None,
    ) -> Step:
        """The step of a model on these inputs, measured.

        Parameters
        ----------
        known : callable, optional
            Tells the bytes of a captured step; what it does not know is measured.
        room_bytes : int, optional
            That the whole step may take meanwhile.

        Raises
        ------
        CaptureError, InvalidArgument
        """
        captured = self.opened(model, inputs)
        options = replace(self.options, room_bytes=room_bytes)
        if captured is None:
            self.traces += 1
            step = trace(model, inputs, options)
        else:
            step = step_of(model, inputs, captured, options, known and known(captured))
        self._seen.note(inputs)
        return step

    def opened(self, model: nn.Module, inputs: Inputs) -> Captured | None:
        """The captured step for these inputs, where a trace of open sizes holds for them.

        None under autocast: steps put together from such a trace were rounded otherwise there.
        """
        if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled(_device_type(inputs)):
            return None
        return self._from_open(model, inputs) or self._opened(model, inputs)

    def changed(self, options: StepOptions) -> StepSource:
        """The same for other options of the step; what was traced serves them, too."""
        other = StepSource(options, self.dynamic)
        other.traces, other._seen, other._refused = self.traces, self._seen, self._refused
        form = StepForm.asked(options)
        other._open = [(replace(symbolic, form=form), guards) for symbolic, guards in self._open]
        return other

    def captured(self, model: nn.Module, inputs: Inputs) -> Captured:
        """The captured step for these inputs, not measured.

        Raises
        ------
        CaptureError
        """
        found = self.opened(model, inputs)
        if found is None:
            self.traces += 1
            with training_mode(model):
                form = StepForm.asked(self.options)
                found = form.capture(model, inputs.args, inputs.kwargs)
        return found

    def open_for(self, model: nn.Module, inputs: Inputs, other: Inputs) -> bool:
        """Trace a step with the sizes left open in which two calls differ; whether that went."""
        seen = SizeHistory()
        seen.note(other)
        varying = seen.varying(inputs)
        return varying is not None and self._open_sizes(model, inputs, varying) is not None

    def _from_open(self, model: nn.Module, inputs: Inputs) -> Captured | None:
        for symbolic, guards in self._open:
            if not _still_so(guards, model):
                continue
            try:
                with training_mode(model):
                    captured = symbolic.at(model, inputs.args, inputs.kwargs)
                if captured is not None and _fits(model, captured, inputs):
                    return captured
            except Exception as error:  # whatever torch says of sizes: it is traced by itself
                logger.info("A trace of open sizes does not hold here: %s", error)
        return None

    def _opened(self, model: nn.Module, inputs: Inputs) -> Captured | None:
        """The step from a new trace of open sizes, if an earlier call differs in sizes only."""
        if self.dynamic is None:
            varying = self._seen.varying(inputs)
        else:
            varying = self.dynamic.open(model, inputs)
        return None if varying is None else self._open_sizes(model, inputs, varying)

    def _open_sizes(self, model: nn.Module, inputs: Inputs, varying: OpenSizes) -> Captured | None:
        if len(self._open) + self._refused >= MOST_TRACES:
            return None
        form = StepForm.asked(self.options)
        self.traces += 1
        try:
            with training_mode(model):
                traced = varying.stand_in(inputs)
                symbolic = SymbolicStep.capture(
                    model, traced.args, traced.kwargs, form, varying.dimensions
                )
                captured = symbolic.at(model, inputs.args, inputs.kwargs)
            if captured is None:
                raise CaptureError("the trace does not hold for its own sizes")
            guards = Guards.of(model, captured)
        except Exception as error:  # whatever torch says of sizes: shapes are traced one by one
            self._refused += 1
            self.traces -= 1
            level = logging.INFO if self.dynamic is None else logging.WARNING
            logger.log(level, "Sizes are not left open: %s", error)
            return None
        self._open.append((symbolic, guards))
        return captured


def _device_type(inputs: Inputs) -> str:
    return next((t.device.type for t in inputs.tensors()), "cpu")


def _still_so(guards: Guards, model: nn.Module) -> bool:
    try:
        found = guards.model.match(model)
        if guards.python is not None:
            guards.python.match(model, found)
    except PlanMismatch:
        return False
    return True


def _fits(model: nn.Module, captured: Captured, inputs: Inputs) -> bool:
    try:
        Guards.of(model, captured).match(model, inputs.args, inputs.kwargs)
    except PlanMismatch:
        return False
    return True
