"""The few schedules of a family, each found where it is needed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pebble.budget import least_known_peak
from pebble.deadline import Deadline, Turns
from pebble.plan.families.domains import Domain
from pebble.plan.families.polynomials import Shape
from pebble.plan.families.sized_step import SizedStep
from pebble.plan.search import PlanSearch
from pebble.schedule import Schedule

logger = logging.getLogger("pebble")

MOST_SCHEDULES = 8
_FRACTIONS = (1.0, 0.6, 0.3)
"""Where between the largest batches without and with recomputation schedules are solved."""
_SHAPES = 12
"""Batches of a length on which schedules are compared."""
_NOT_AT_ALL = 1e3


class ScheduleSearch:
    """Looks for schedules that together cover every shape that fits a budget, cheaply.

    One keeps everything. The leanest ones say how large a batch may be at the longest and at the
    shortest length. In between, schedules of least cost are solved at a few shapes.

    Parameters
    ----------
    step : SizedStep
    search : PlanSearch
        Budget, solver and deadline.
    lengths : (int, int)
    batches : (int, int)
    """

    def __init__(
        self,
        step: SizedStep,
        search: PlanSearch,
        lengths: tuple[int, int],
        batches: tuple[int, int],
    ) -> None:
        self.step, self.search = step, search
        self.lengths, self.batches = lengths, batches
        self.found = [Domain.of(step, Schedule.keep_all(step.graph))]

    def run(self) -> tuple[Schedule, ...]:
        """The schedules; the first keeps everything."""
        low, high = self.lengths
        lengths = list(dict.fromkeys((high, low, (low + high) // 2)))
        turns = Turns(self.search.deadline, 2 + len(_FRACTIONS) * len(lengths))
        for length in lengths[:2]:
            self._leanest(length, turns.next())
        for fraction in _FRACTIONS:
            for length in lengths:
                seconds, shape = turns.next(), self._between(fraction, length)
                if shape is not None:
                    self._solve(shape, seconds)
        return tuple(domain.schedule for domain in self._fewest(lengths))

    def _fewest(self, lengths: Sequence[int]) -> list[Domain]:
        """Those without which some shape would cost more, the most useful of them."""
        shapes = [
            shape
            for length in lengths
            for i in range(_SHAPES + 1)
            if (shape := self._between(i / _SHAPES, length)) is not None
        ]
        costs = np.array([[self._cost(d, shape) for shape in shapes] for d in self.found])
        kept = list(range(len(self.found)))
        while len(kept) > 1 and shapes:
            # with one less, by how much more the shapes cost; one that does not fit costs most
            loss = {
                k: float((costs[[j for j in kept if j != k]].min(0) - costs[kept].min(0)).sum())
                for k in kept[1:]
            }
            least = min(loss, key=lambda k: loss[k])
            if len(kept) <= MOST_SCHEDULES and loss[least] > 0:
                break
            kept.remove(least)
        return [self.found[k] for k in kept]

    def _cost(self, domain: Domain, shape: Shape) -> float:
        """Relative to that of the step as it is; very much where the schedule does not fit."""
        fits = domain.largest_batch(shape.length, self.search.budget_bytes) >= shape.batch
        return domain.cost_at(shape) / self.found[0].cost_at(shape) if fits else _NOT_AT_ALL

    def _most(self, length: int) -> int:
        budget = self.search.budget_bytes
        return max(domain.largest_batch(length, budget) for domain in self.found)

    def _leanest(self, length: int, seconds: float) -> None:
        """The schedule of least peak where nothing known fits any longer, and again above that."""
        deadline = Deadline(seconds)
        for _ in range(3):
            batch = min(max(self._most(length) + 1, self.batches[0]), self.batches[1])
            footprint = self.step.footprint(Shape(batch, length))
            start = min((d.schedule for d in self.found), key=footprint.peak)
            least = least_known_peak(
                footprint,
                time_limit=deadline.share(0.5),
                seed=self.search.options.seed,
                start=None if start is self.found[0].schedule else start,
            )
            before = self._most(length)
            if footprint.peak(least.schedule) < footprint.peak(start):
                self._add(least.schedule)
            if self._most(length) <= before:
                return

    def _between(self, fraction: float, length: int) -> Shape | None:
        """A shape of a length for which something must be recomputed, and can be."""
        kept = self.found[0].largest_batch(length, self.search.budget_bytes)
        most = min(self._most(length), self.batches[1])
        low = max(kept + 1, self.batches[0])
        if low > most:
            return None
        return Shape(round(low + fraction * (most - low)), length)

    def _solve(self, shape: Shape, seconds: float) -> None:
        footprint = self.step.footprint(shape)
        search = replace(self.search, deadline=Deadline(seconds))
        room = footprint.problem(search.budget_bytes).budget
        fitting = [
            domain
            for domain in self.found
            if domain.largest_batch(shape.length, search.budget_bytes) >= shape.batch
        ]
        start = min(fitting, key=lambda d: d.cost_at(shape)).schedule if fitting else None
        result = search.find(footprint, start)
        if result is None or result.schedule is None or result.trace is None:
            return
        logger.info(
            "A schedule for a batch of %s: %.2f %% more compute within %d bytes.",
            shape, 100 * (result.trace.cost / footprint.unplanned.cost - 1), room,
        )  # fmt: skip
        self._add(result.schedule)

    def _add(self, schedule: Schedule) -> None:
        if all(schedule != domain.schedule for domain in self.found):
            self.found.append(Domain.of(self.step, schedule))
