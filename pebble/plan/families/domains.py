"""For which shapes a schedule is within a budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pebble.plan.families.polynomials import Shape
from pebble.plan.families.sized_step import SizedStep
from pebble.referee import simulate
from pebble.schedule import Schedule

LARGEST_BATCH = 2**20


@dataclass(frozen=True)
class Domain:
    """A schedule of a step of any shape, with its memory and its cost as functions of the shape.

    Attributes
    ----------
    step : SizedStep
    schedule : Schedule
    live : array, shape (n_moments, n_powers)
        Coefficients of the bytes of the whole step at every moment, the optimizer's step last.
    cost : array, shape (n_powers,)
        Coefficients of the nanoseconds.
    """

    step: SizedStep
    schedule: Schedule
    live: NDArray[np.float64]
    cost: NDArray[np.float64]

    @classmethod
    def of(cls, step: SizedStep, schedule: Schedule) -> Domain:
        """From the referee's replays at as many shapes as it takes: they are linear in sizes."""
        solving, known = step.sampled
        curves = []
        for footprint in known:
            trace, resident = simulate(footprint.graph, schedule), footprint.resident
            curves.append(
                [*(trace.live + resident.total), resident.optimizer_step_peak, trace.cost]
            )
        found = np.array(curves, float).T @ solving
        return cls(step, schedule, np.unique(found[:-1], axis=0), found[-1])

    def peak_bytes(self, shape: Shape) -> int:
        """Of the whole step, by the referee."""
        return self.step.footprint(shape).peak(self.schedule)

    def cost_at(self, shape: Shape) -> float:
        """Nanoseconds of the step."""
        return float(self.cost @ np.array(self.step.sizes.basis.at(shape), float))

    def largest_batch(self, length: int, budget_bytes: int) -> int:
        """The largest batch of a length within a budget, 0 if there is none."""
        along = self.live @ self.step.sizes.basis.along_batch(length)
        constant, slope = along[:, 0], along[:, 1]
        grows = slope > 1e-9
        if (constant[~grows] > budget_bytes).any():
            return 0
        if not grows.any():
            return LARGEST_BATCH
        most = np.floor((budget_bytes - constant[grows]) / slope[grows] + 1e-9).min()
        return int(np.clip(most, 0, LARGEST_BATCH))
