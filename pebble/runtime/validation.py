"""Run a planned step beside the un-planned one: same bits, measured bytes, measured time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pebble.errors import InvalidArgument
from pebble.measure.memory import step_memory
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.runtime.bench import Bench
from pebble.runtime.step_modules import StepModules, compare
from pebble.runtime.validation_report import Validation
from pebble.schedule import Schedule
from pebble.tracing.captured import Captured
from pebble.tracing.inputs import Inputs
from pebble.tracing.training_mode import in_modes

RUNNABLE_OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-3),
    "momentum": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p),
    "adamw": lambda p: torch.optim.AdamW(p),
    "adafactor": lambda p: torch.optim.Adafactor(p),
}


@dataclass(frozen=True)
class ValidationOptions:
    """What a validation is told besides the step.

    Attributes
    ----------
    predicted_peak_bytes, budget_bytes : int, optional
        For the whole step. Without a prediction: what the referee and the memory model say.
    unplanned_cost : int, optional
        Of the un-planned step, where that is not this graph with everything kept.
    optimizer : str, optional
        Name of a torch optimizer: its state is made and counted, and its step measured too.
    seed : int
    repeats : int
        Timed runs of each.
    """

    predicted_peak_bytes: int | None = None
    budget_bytes: int | None = None
    unplanned_cost: int | None = None
    optimizer: str | None = None
    seed: int = 0
    repeats: int = 3


_DEFAULTS = ValidationOptions()


def validate(
    model: nn.Module,
    captured: Captured,
    problem: Problem,
    schedule: Schedule,
    inputs: Inputs,
    options: ValidationOptions = _DEFAULTS,
) -> Validation:
    """Run one training step eagerly, captured with everything kept, and planned; compare.

    Parameters
    ----------
    model : nn.Module
        Parameters, gradients, buffers, inputs and the random state are afterwards what they were.
    captured : Captured
        Of this model on inputs of these shapes.
    problem : Problem
        Its graph carries measured costs and workspaces.
    schedule : Schedule
    inputs : Inputs
        Of the model.
    options : ValidationOptions

    Raises
    ------
    InvalidArgument
        If the capture was made on fake tensors, or the optimizer is none of torch's.
    """
    _check(captured, options.optimizer)
    bench = Bench(model, captured, inputs, options.seed)
    with in_modes(model, captured.state.training), bench.restored():
        steps = StepModules.of(model, captured, schedule)
        agreement = compare(bench, steps)
        seconds = bench.times((model, steps.kept, steps.planned), options.repeats)
        measured = _weigh(bench, steps, options.optimizer)
    trace = simulate(problem, schedule)
    kept_cost = simulate(problem, Schedule.keep_all(problem.graph)).cost
    predicted = options.predicted_peak_bytes
    if predicted is None:
        memory = step_memory(captured, optimizer=options.optimizer, model=model)
        predicted = memory.resident.whole_step_peak(trace.peak)
    return Validation(
        **vars(agreement),
        **vars(measured),
        predicted_peak_bytes=predicted,
        budget_bytes=options.budget_bytes,
        overhead_predicted=trace.cost / max(options.unplanned_cost or kept_cost, 1) - 1,
        overhead_measured=seconds[2] / seconds[1] - 1,
        seconds_eager=seconds[0],
        seconds_unplanned=seconds[1],
        seconds_planned=seconds[2],
        device=captured.device,
        threads=torch.get_num_threads(),
    )


def _check(captured: Captured, optimizer: str | None) -> None:
    if captured.fake:
        raise InvalidArgument(
            "The step was captured on fake tensors, which cannot be run; capture the real model."
        )
    if optimizer is not None and optimizer not in RUNNABLE_OPTIMIZERS:
        raise InvalidArgument(
            f"Optimizer {optimizer!r} cannot be run here; choose one of "
            f"{', '.join(RUNNABLE_OPTIMIZERS)}, or None for forward and backward only."
        )


@dataclass(frozen=True)
class _MeasuredBytes:
    """The part of a Validation that says what was measured of the allocator."""

    resident_bytes: int
    measured_peak_bytes: int
    eager_peak_bytes: int
    unplanned_peak_bytes: int
    measured_curve: NDArray[np.int64]


def _weigh(bench: Bench, steps: StepModules, optimizer: str | None) -> _MeasuredBytes:
    resident, stepped = bench.resident(), 0
    if optimizer is not None:
        state, stepped = bench.optimizer_step(RUNNABLE_OPTIMIZERS[optimizer], steps.planned)
        resident += state
    largest_step = resident + stepped
    resident += bench.accumulated()
    run = bench.trace(steps.planned)
    return _MeasuredBytes(
        resident_bytes=resident,
        measured_peak_bytes=max(resident + run.peak, largest_step),
        eager_peak_bytes=max(resident + bench.peak(bench.model), largest_step),
        unplanned_peak_bytes=max(resident + bench.peak(steps.kept), largest_step),
        measured_curve=resident + run.live,
    )
