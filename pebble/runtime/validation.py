"""Run a planned step beside the un-planned one: same bits, measured bytes, measured time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pebble.errors import InvalidArgument
from pebble.measure.memory import step_memory
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.runtime.agreement import difference, same, tolerance
from pebble.runtime.bench import Bench, StepResults, deterministic
from pebble.runtime.planned_module import build
from pebble.runtime.validation_report import Validation
from pebble.schedule import Schedule
from pebble.tracing.captured import Captured

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
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
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
    args, kwargs : inputs of the model
    options : ValidationOptions

    Raises
    ------
    InvalidArgument
        If the capture was made on fake tensors, or the optimizer is none of torch's.
    """
    _check(captured, options.optimizer)
    steps = _Steps.of(model, captured, problem, schedule)
    bench = Bench(model, captured, args, dict(kwargs or {}), options.seed)
    with bench.restored():
        bits = _compare(bench, steps)
        seconds = bench.times((model, steps.kept, steps.planned), options.repeats)
        weights = _weigh(bench, steps, options.optimizer)
    trace, everything = simulate(problem, schedule), simulate(problem, kept_order(problem))
    predicted = options.predicted_peak_bytes
    if predicted is None:
        memory = step_memory(captured, optimizer=options.optimizer, model=model)
        predicted = memory.whole_step_peak(trace.peak)
    return Validation(
        **vars(bits),
        **vars(weights),
        predicted_peak_bytes=predicted,
        budget_bytes=options.budget_bytes,
        overhead_predicted=trace.cost / max(options.unplanned_cost or everything.cost, 1) - 1,
        overhead_measured=seconds[2] / seconds[1] - 1,
        seconds_eager=seconds[0],
        seconds_unplanned=seconds[1],
        seconds_planned=seconds[2],
        device=captured.device,
        threads=torch.get_num_threads(),
    )


def kept_order(problem: Problem) -> Schedule:
    """Everything once, in the reference order."""
    return Schedule.keep_all(problem.graph)


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
class _Steps:
    """The modules that are run beside the model.

    Attributes
    ----------
    kept : nn.Module
        The captured step with its loss in one piece and everything kept.
    twin : nn.Module
        The step that is planned, with everything kept; `kept` itself without chunks.
    planned : nn.Module
    draws : bool
        Whether the step draws random numbers.
    """

    kept: nn.Module
    twin: nn.Module
    planned: nn.Module
    draws: bool

    @classmethod
    def of(
        cls, model: nn.Module, captured: Captured, problem: Problem, schedule: Schedule
    ) -> _Steps:
        whole = captured.whole or captured
        kept = build(model, whole, Schedule.keep_all(whole.graph))
        twin = kept if whole is captured else build(model, captured, kept_order(problem))
        return cls(kept, twin, build(model, captured, schedule), _draws(captured))


@dataclass(frozen=True)
class _Bits:
    """The part of a Validation that says what is equal."""

    loss_equal: bool
    gradients_equal: bool
    buffers_equal: bool
    eager_difference: float | None
    chunks_difference: float | None
    tolerance: float


def _compare(bench: Bench, steps: _Steps) -> _Bits:
    with deterministic():
        expected, found = bench.results(steps.twin), bench.results(steps.planned)
        whole = None if steps.twin is steps.kept else bench.results(steps.kept)
        eager = None if steps.draws else bench.results(bench.model)
    return _Bits(
        loss_equal=same(expected.outputs, found.outputs),
        gradients_equal=same(expected.gradients, found.gradients),
        buffers_equal=same(expected.buffers, found.buffers),
        eager_difference=None if eager is None else difference(found.gradients, eager.gradients),
        chunks_difference=None if whole is None else _chunks_difference(found, whole),
        tolerance=tolerance(found.gradients),
    )


@dataclass(frozen=True)
class _Weights:
    """The part of a Validation that says what was measured of the allocator."""

    resident_bytes: int
    measured_peak_bytes: int
    eager_peak_bytes: int
    unplanned_peak_bytes: int
    measured_curve: NDArray[np.int64]


def _weigh(bench: Bench, steps: _Steps, optimizer: str | None) -> _Weights:
    resident, stepped = bench.resident(), 0
    if optimizer is not None:
        state, stepped = bench.optimizer_step(RUNNABLE_OPTIMIZERS[optimizer], steps.planned)
        resident += state
    largest_step = resident + stepped
    resident += bench.accumulated()
    run = bench.trace(steps.planned)
    return _Weights(
        resident_bytes=resident,
        measured_peak_bytes=max(resident + run.peak, largest_step),
        eager_peak_bytes=max(resident + bench.peak(bench.model), largest_step),
        unplanned_peak_bytes=max(resident + bench.peak(steps.kept), largest_step),
        measured_curve=resident + run.live,
    )


def _draws(captured: Captured) -> bool:
    """Whether the step draws random numbers."""
    return any(
        not op.recomputable
        and torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        for op, nodes in zip(captured.graph.ops, captured.op_nodes)
        for node in nodes[:1]
    )


def _chunks_difference(found: StepResults, whole: StepResults) -> float:
    """Of gradients and of the loss, the first output."""
    return max(
        difference(found.gradients, whole.gradients),
        difference(found.outputs[:1], whole.outputs[:1]),
    )
