"""Run a planned step beside the un-planned one: same bits, measured bytes, measured time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pebble.errors import InvalidArgument
from pebble.measure.memory import step_memory, trainable
from pebble.measure.sparse_optimizers import SPARSE_ADAM, sparse_adam
from pebble.problem import Problem
from pebble.progress import open_line
from pebble.referee import simulate
from pebble.runtime.agreement import Agreement, tolerance
from pebble.runtime.bench import Bench, median_seconds
from pebble.runtime.eager_comparison import compare_with_eager
from pebble.runtime.random_states import random_states_kept
from pebble.runtime.step_twin import StepTwin
from pebble.runtime.validation_report import Validation
from pebble.schedule import Schedule
from pebble.tracing.captured import Captured
from pebble.tracing.inputs import Inputs

RUNNABLE_OPTIMIZERS: dict[str, Callable[[list[torch.Tensor]], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-3),
    "momentum": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p),
    "adamw": lambda p: torch.optim.AdamW(p),
    SPARSE_ADAM: sparse_adam,
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
    """Run one training step eagerly, captured with everything kept, and planned.

    Eager is the judge of what the planned step leaves behind: the same inputs, the same random
    state, forward under the autocast of the capture and backward outside of it.

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
    open_line().part("eager and planned steps")
    twin, seed = StepTwin.of(model, captured, inputs), options.seed
    with twin.restored(), random_states_kept(twin.device):
        eager, planned = Bench(twin, seed=seed), Bench(twin.fresh(), schedule, seed=seed)
        whole = captured.whole or captured
        kept = Bench(twin.fresh(), Schedule.keep_all(whole.graph), whole=True, seed=seed)
        agreement = compare_with_eager(planned, eager)
        seconds = median_seconds((eager, kept, planned), options.repeats)
        measured = _weigh(eager, kept, planned, options.optimizer)
    trace = simulate(problem, schedule)
    kept_cost = simulate(problem, Schedule.keep_all(problem.graph)).cost
    predicted = options.predicted_peak_bytes
    if predicted is None:
        memory = step_memory(captured, optimizer=options.optimizer, model=model)
        predicted = memory.resident.whole_step_peak(trace.peak)
    return Validation(
        **_equalities(agreement, captured),
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


def _equalities(agreement: Agreement, captured: Captured) -> dict[str, Any]:
    """The part of a Validation that says what is equal."""
    names = [difference.name for difference in agreement.differences]
    of_loss = ("output", "derivative", "loss")
    gradients = agreement.largest_of("gradient")
    return {
        "agreement": agreement,
        "loss_equal": not any(name.startswith(of_loss) for name in names),
        "gradients_equal": not any(name.startswith("gradient") for name in names),
        "buffers_equal": all(name.startswith((*of_loss, "gradient")) for name in names),
        "eager_difference": gradients,
        "chunks_difference": agreement.largest if captured.chunks else None,
        "tolerance": max(
            tolerance([slot.node.meta["val"] for slot in trainable(captured)]),
            *(d.allowed for d in agreement.differences),
            0.0,
        ),
    }


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


def _weigh(eager: Bench, kept: Bench, planned: Bench, optimizer: str | None) -> _MeasuredBytes:
    resident, stepped = planned.resident(), 0
    if optimizer is not None:
        state, stepped = planned.optimizer_step(RUNNABLE_OPTIMIZERS[optimizer])
        resident += state
    largest_step = resident + stepped
    resident += planned.accumulated()
    run = planned.trace()
    return _MeasuredBytes(
        resident_bytes=resident,
        measured_peak_bytes=max(resident + run.peak, largest_step),
        eager_peak_bytes=max(resident + eager.peak(), largest_step),
        unplanned_peak_bytes=max(resident + kept.peak(), largest_step),
        measured_curve=resident + run.live,
    )
