"""What a planned step did when it was run, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pebble.formatting import Printed, gigabytes, table
from pebble.runtime.agreement import Agreement


@dataclass(frozen=True, repr=False)
class Validation(Printed):
    """What a planned step did when it was run. Bytes are those of the whole step.

    Attributes
    ----------
    loss_equal, gradients_equal, buffers_equal : bool
        Bit for bit those of eager, under torch's deterministic algorithms and the same seed. The
        loss stands for all outputs, the buffers for all that is written and the random state.
    eager_difference : float
        Largest difference of a gradient from eager's, relative to the largest entry of that
        gradient.
    resident_bytes : int
        Summed from the real storages, each once: parameters, buffers, inputs, optimizer state,
        and the gradients so far where several micro-batches are added up.
    predicted_peak_bytes, measured_peak_bytes : int
    budget_bytes : int or None
    eager_peak_bytes, unplanned_peak_bytes : int
        Measured without a plan: eager mode, and the captured step with everything kept.
    overhead_predicted, overhead_measured : float
        Extra compute and extra time as a fraction of the captured step with everything kept.
    seconds_planned, seconds_unplanned, seconds_eager : float
        Median time of forward and backward.
    device : str
    threads : int
    chunks_difference : float or None
        Where the head and the loss run in chunks: the largest difference from eager of all,
        relative to the largest entry. Times and peaks without a plan are those of the loss in one
        piece.
    tolerance : float
        What a difference may be: rounding of the coarsest dtype among the gradients, or more where
        eager itself changes by more when its weights are rounded once more.
    measured_curve : int array
        Live bytes of the planned step's forward and backward after each allocation and release,
        resident ones included. Empty on CUDA.
    agreement : Agreement
        Everything that differs from eager, and by how much.
    """

    loss_equal: bool
    gradients_equal: bool
    buffers_equal: bool
    eager_difference: float
    resident_bytes: int
    predicted_peak_bytes: int
    measured_peak_bytes: int
    budget_bytes: int | None
    eager_peak_bytes: int
    unplanned_peak_bytes: int
    overhead_predicted: float
    overhead_measured: float
    seconds_planned: float
    seconds_unplanned: float
    seconds_eager: float
    device: str
    threads: int
    measured_curve: NDArray[np.int64] = field(repr=False, compare=False)
    chunks_difference: float | None = None
    tolerance: float = 0.0
    agreement: Agreement = field(default_factory=Agreement)

    @property
    def ok_bitwise(self) -> bool:
        """Loss, gradients and buffers are eager's bit for bit."""
        return self.loss_equal and self.gradients_equal and self.buffers_equal

    @property
    def exact(self) -> bool:
        """The measured peak is the predicted one, to the byte."""
        return self.measured_peak_bytes == self.predicted_peak_bytes

    @property
    def within_budget(self) -> bool:
        """The measured peak is within the budget, if there is one."""
        return self.budget_bytes is None or self.measured_peak_bytes <= self.budget_bytes

    @property
    def within_tolerance(self) -> bool:
        """A loss in chunks gives what one in one piece gives, up to rounding."""
        return self.chunks_difference is None or self.chunks_difference <= self.tolerance

    @property
    def equal(self) -> bool:
        """Nothing differs from eager by more than sums in another order make of it."""
        return self.agreement.wrong is None and self.within_tolerance

    @property
    def ok(self) -> bool:
        """Equal to eager, never above the prediction, and within the budget."""
        below = self.measured_peak_bytes <= self.predicted_peak_bytes
        return self.equal and below and self.within_budget

    def __str__(self) -> str:
        header = ["", "eager", "captured, all kept", "planned", "predicted", "budget"]
        return "\n".join([table(header, self._rows()), *self._facts()])

    def _rows(self) -> list[list[str]]:
        peaks = (
            self.eager_peak_bytes,
            self.unplanned_peak_bytes,
            self.measured_peak_bytes,
            self.predicted_peak_bytes,
        )
        budget = "-" if self.budget_bytes is None else gigabytes(self.budget_bytes)
        seconds = (self.seconds_eager, self.seconds_unplanned, self.seconds_planned)
        more = f"{self.overhead_measured:.1%}", f"{self.overhead_predicted:.1%}"
        return [
            ["peak", *map(gigabytes, peaks), budget],
            ["step time", *(f"{1e3 * s:.1f} ms" for s in seconds), "-", "-"],
            ["overhead", "-", "0", *more, "-"],
        ]

    def _facts(self) -> list[str]:
        yes = {True: "yes", False: "NO"}
        facts = [
            f"bitwise equal to eager: loss {yes[self.loss_equal]}, gradients "
            f"{yes[self.gradients_equal]}, buffers {yes[self.buffers_equal]}; largest relative "
            f"difference of a gradient: {self.eager_difference:.1e}",
            f"peak to the byte: {yes[self.exact]} ({self.measured_peak_bytes:,} measured, "
            f"{self.predicted_peak_bytes:,} predicted; {gigabytes(self.resident_bytes)} of it "
            f"resident); {self.device}, {self.threads} threads",
        ]
        if self.chunks_difference is not None:
            facts.append(
                f"loss in chunks: largest relative difference from eager's in one piece "
                f"{self.chunks_difference:.1e}, allowed {self.tolerance:.0e} (rounding)"
            )
        differs = self.agreement.wrong or next(iter(self.agreement.differences), None)
        if differs is not None:
            verdict = "WRONG" if differs.beyond_rounding else "rounding"
            facts.append(f"{verdict}: {differs}")
        return facts
