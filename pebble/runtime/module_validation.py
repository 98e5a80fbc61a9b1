"""Run a step by a module-level plan beside the step as it is: bits, measured bytes, time."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

import torch

from pebble.block_calls import BlockCall
from pebble.formatting import Printed, gigabytes, table
from pebble.measure.model_state import same_contents
from pebble.runtime.module_bench import Blocks, ModuleBench
from pebble.tracing.plannable import plain_parts
from pebble.tracing.training_mode import training_mode


@dataclass(frozen=True)
class ModulePromise:
    """What a module-level plan says of its step.

    Attributes
    ----------
    peak_bytes, budget_bytes, resident_bytes, optimizer_step_peak : int
    overhead : float
    blocks : tuple of str
    chosen : tuple of BlockCall
    layered : bool
    """

    peak_bytes: int
    budget_bytes: int
    resident_bytes: int
    optimizer_step_peak: int
    overhead: float
    blocks: tuple[str, ...]
    chosen: tuple[BlockCall, ...]
    layered: bool


@dataclass(frozen=True, repr=False)
class ModuleValidation(Printed):
    """What a step by a module-level plan did when it was run. Bytes are those of the whole step.

    Attributes
    ----------
    loss_equal, gradients_equal, buffers_equal : bool
        Bit for bit those of the model as it is, under torch's deterministic algorithms and the
        same seed. `buffers_equal` speaks of everything that the step changes in the model.
    eager_difference : float
        Largest difference of a gradient, relative to its largest entry.
    predicted_peak_bytes, measured_peak_bytes, eager_peak_bytes, budget_bytes : int
        The optimizer's state and step are predicted, not measured.
    overhead_predicted, overhead_measured : float
        Extra time as a fraction of the un-planned step's.
    seconds_planned, seconds_eager : float
        Median time of forward and backward.
    device : str
    threads : int
    """

    loss_equal: bool
    gradients_equal: bool
    buffers_equal: bool
    eager_difference: float
    predicted_peak_bytes: int
    measured_peak_bytes: int
    eager_peak_bytes: int
    budget_bytes: int
    overhead_predicted: float
    overhead_measured: float
    seconds_planned: float
    seconds_eager: float
    device: str
    threads: int

    @property
    def ok_bitwise(self) -> bool:
        """Loss, gradients and buffers are those of the model as it is."""
        return self.loss_equal and self.gradients_equal and self.buffers_equal

    @property
    def within_budget(self) -> bool:
        """The measured peak is within the budget."""
        return self.measured_peak_bytes <= self.budget_bytes

    @property
    def ok(self) -> bool:
        """Equal as promised, and within the budget."""
        return self.ok_bitwise and self.within_budget

    def __str__(self) -> str:
        yes = {True: "yes", False: "NO"}
        peaks = (
            self.eager_peak_bytes,
            self.measured_peak_bytes,
            self.predicted_peak_bytes,
            self.budget_bytes,
        )
        times = (self.seconds_eager, self.seconds_planned)
        more = f"{self.overhead_measured:.1%}", f"{self.overhead_predicted:.1%}"
        rows = [
            ["peak", *map(gigabytes, peaks)],
            ["step time", *(f"{1e3 * s:.1f} ms" for s in times), "-", "-"],
            ["overhead", "0", *more, "-"],
        ]
        facts = (
            f"bitwise equal to eager: loss {yes[self.loss_equal]}, gradients "
            f"{yes[self.gradients_equal]}, buffers {yes[self.buffers_equal]}; largest relative "
            f"difference {self.eager_difference:.1e}; {self.device}, {self.threads} threads"
        )
        return "\n".join([table(["", "eager", "planned", "predicted", "budget"], rows), facts])


def validate_modules(bench: ModuleBench, promise: ModulePromise, repeats: int) -> ModuleValidation:
    """Run a step as it is and by a module-level plan; compare.

    Parameters
    ----------
    bench : ModuleBench
        The model and its inputs are afterwards what they were.
    promise : ModulePromise
    repeats : int
        Timed runs of each.
    """
    planned = Blocks(promise.blocks, frozenset(promise.chosen), promise.layered)
    eager = Blocks()
    with training_mode(bench.model), plain_parts(bench.model), bench.restored():
        expected, found = bench.measured(eager), bench.measured(planned)
        runs = [(bench.seconds(eager)[0], bench.seconds(planned)[0]) for _ in range(repeats or 1)]
    wanted, got = expected.outcome, found.outcome
    times = [statistics.median(taken) for taken in zip(*runs)]
    peaks = [
        max(promise.resident_bytes + run.timeline.peak_bytes, promise.optimizer_step_peak)
        for run in (expected, found)
    ]
    return ModuleValidation(
        loss_equal=all(map(same_contents, wanted.outputs, got.outputs)),
        gradients_equal=all(map(same_contents, wanted.gradients, got.gradients)),
        buffers_equal=wanted.state.same_as(got.state),
        eager_difference=max(map(_relative, got.gradients, wanted.gradients), default=0.0),
        predicted_peak_bytes=promise.peak_bytes,
        measured_peak_bytes=peaks[1],
        eager_peak_bytes=peaks[0],
        budget_bytes=promise.budget_bytes,
        overhead_predicted=promise.overhead,
        overhead_measured=times[1] / times[0] - 1,
        seconds_planned=times[1],
        seconds_eager=times[0],
        device=str(bench.device),
        threads=torch.get_num_threads(),
    )


def _relative(found: torch.Tensor | None, wanted: torch.Tensor | None) -> float:
    """The largest difference over the largest entry; infinite where one is not there."""
    if found is None or wanted is None:
        return 0.0 if found is wanted else float("inf")
    largest = float(wanted.abs().max()) if wanted.numel() else 0.0
    return float((found - wanted).abs().max()) / (largest or 1.0) if wanted.numel() else 0.0
