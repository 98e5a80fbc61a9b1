"""The search for the largest batch within a budget: sketched steps first, exact ones last."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pebble.budget import LeastKnown, least_known_peak, proved_peak_lower_bound
from pebble.deadline import Deadline
from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.finetune.batch_sizes import FINE, BatchSizes
from pebble.options import ChunkedLoss, SearchOptions
from pebble.plan.optimization import plan_step
from pebble.plan.plan import Plan
from pebble.referee import simulate
from pebble.schedule import Schedule

if TYPE_CHECKING:
    from pebble.finetune.steps_by_batch import Batches
    from pebble.measure.step import Step

logger = logging.getLogger("pebble")

LARGEST = 2**14
"""Batch sizes above this are not looked for."""
_A_SOLVE = 1 / 6  # of the time that is left
_KNOWN = 8  # plans of other batch sizes that a new one begins with


@dataclass(frozen=True)
class _Largest:
    """The largest batch of a plan, what one more would take, and the plan."""

    batch: int
    most: int
    next_peak: int
    next_overhead: float | None
    plan: Plan | None
    leanest: Schedule | None = None


class BatchSearch:
    """Looks for the largest batch whose step fits a budget.

    Parameters
    ----------
    batches : Batches
    budget_bytes : int
    options : SearchOptions
        `time_limit` is that of the whole search.
    deadline : Deadline
        Of the call.
    """

    def __init__(
        self, batches: Batches, budget_bytes: int, options: SearchOptions, deadline: Deadline
    ) -> None:
        self.batches, self.budget, self.options = batches, budget_bytes, options
        self.deadline = deadline
        self.leanest: Schedule | None = None
        self.fitting: Schedule | None = None
        self.known: list[Schedule] = []

    def run(self, max_overhead: float | None) -> BatchSizes:
        """The sizes, with at most so much extra compute (a fraction; None: any)."""
        chunked = self.options.chunked_loss
        self._anchor()
        unplanned = self._largest_exact(_unplanned_peak)
        unplanned_peak = _unplanned_peak(self.batches.exact(max(unplanned, 1)))
        found = self.planned(max_overhead, unplanned)
        limit = self._limit(found.most)
        best = found
        split = None if chunked is False else self._split(chunked, max(found.batch, 1))
        if split is not None:
            other = split.planned(max_overhead, unplanned)
            best = other if other.batch > found.batch or chunked != "auto" else found
        if best.plan is None:  # not even one sample: say why
            self._planned(self.batches.exact(1), None)
        return BatchSizes(
            budget_bytes=self.budget,
            unplanned=unplanned,
            planned=best.batch,
            most=best.most,
            whole=found.batch,
            whole_most=found.most,
            limit=limit,
            unplanned_peak_bytes=unplanned_peak,
            next_peak_bytes=best.next_peak,
            next_overhead=best.next_overhead,
            max_overhead=max_overhead,
            plan=best.plan,
            leanest=best.leanest,
        )

    def planned(self, max_overhead: float | None, unplanned: int) -> _Largest:
        """The largest batch that a plan holds, and why not one more."""
        most, least = self._leanest(unplanned)
        if most == 0:
            return _Largest(0, 0, least, None, None)
        batch, overhead = most, None
        if max_overhead is not None:
            batch, overhead = self._within(max_overhead, unplanned, most)
        plan = self._plan(self.batches.exact(batch))
        return _Largest(batch, most, least, overhead, plan, self.fitting)

    def _split(self, chunked: ChunkedLoss, batch: int) -> BatchSearch | None:
        """The same search with the loss in chunks, as many as twice the batch calls for."""
        from pebble.tracing.chunked_loss import suggest_chunks
        from pebble.tracing.loss_region import find_region

        step = self.batches.sketch(batch)
        try:
            chunks = chunked
            if chunked == "auto":
                if find_region(self.batches.captured(batch)).rows <= 2 * batch:
                    return None  # a classifier: its head is not what is large
                room = step.footprint.problem(self.budget).budget
                chunks = suggest_chunks(self.batches.captured(2 * batch), room)
            batches = self.batches.chunked(int(chunks))
            batches.exact(batch)
        except InvalidArgument:
            if chunked != "auto":
                raise
            return None
        return BatchSearch(batches, self.budget, self.options, self.deadline)

    def _anchor(self) -> None:
        """Two exact steps to sketch others from; one sample alone is often traced otherwise."""
        if not self.batches.fake:
            for batch in (2, 4):
                self.batches.exact(batch)

    # -- without recomputation ---------------------------------------------------------------

    def _largest_sketched(self, peak: Callable[[Step], int]) -> int:
        """Largest batch whose sketch has a peak within the budget, 0 if none."""
        low, high = 0, 1
        while high <= LARGEST and peak(self.batches.sketch(high)) <= self.budget:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            fits = peak(self.batches.sketch(middle)) <= self.budget
            low, high = (middle, high) if fits else (low, middle)
        return low

    def _largest_exact(self, peak: Callable[[Step], int]) -> int:
        """The same on exact steps, beginning where the sketches end."""
        batch = self._largest_sketched(peak)
        while batch > 0 and peak(self.batches.exact(batch)) > self.budget:
            batch = min(self._largest_sketched(peak), batch - 1)
        while batch < LARGEST and peak(self.batches.exact(batch + 1)) <= self.budget:
            batch += 1
            further = self._largest_sketched(peak)
            if further > batch and peak(self.batches.exact(further)) <= self.budget:
                batch = further
        return batch

    def _limit(self, most: int) -> int:
        """A batch above which no schedule fits: by the working sets, then by a sharper bound."""
        low, high = most, max(self._largest_sketched(_bound_peak), most) + 1
        while high - low > 1:
            middle = (low + high) // 2
            fits = proved_peak_lower_bound(self.batches.sketch(middle).footprint) <= self.budget
            low, high = (middle, high) if fits else (low, middle)
        return low

    # -- with a plan -------------------------------------------------------------------------

    def _leanest(self, unplanned: int) -> tuple[int, int]:
        """Largest batch that some schedule holds, and the least peak of one sample more."""
        self._lower(self.batches.sketch(max(unplanned, 2)))
        batch = max(self._largest_sketched(self._leanest_peak), unplanned)
        while batch > 0 and self._lower(self.batches.exact(batch)) > self.budget:
            batch = min(self._largest_sketched(self._leanest_peak), batch - 1)
        while True:
            self.fitting = self.leanest
            peak = self._lower(self.batches.exact(batch + 1))
            if peak > self.budget:
                return batch, peak
            batch += 1
            further = self._largest_sketched(self._leanest_peak)
            while further > batch:
                if self._leanest_peak(self.batches.exact(further)) <= self.budget:
                    batch = further
                further -= 1

    def _leanest_peak(self, step: Step) -> int:
        if self.leanest is None or not _is_of(self.leanest, step):
            return self._least(step, None).peak_bytes
        return step.footprint.peak(self.leanest)

    def _lower(self, step: Step) -> int:
        """The least peak known for a step; its schedule is remembered.

        A search that begins with another batch's schedule is quick but may be stuck near it, so
        one that begins anew has the last word on what does not fit.
        """
        if self.leanest is not None and _is_of(self.leanest, step):
            near = self._least(step, self.leanest)
            self.leanest = near.schedule
            if near.peak_bytes <= self.budget:
                return near.peak_bytes
        anew = self._least(step, None)
        known = self.leanest
        if known is None or not _is_of(known, step) or anew.peak_bytes < step.footprint.peak(known):
            self.leanest = anew.schedule
        return self._leanest_peak(step)

    def _least(self, step: Step, start: Schedule | None) -> LeastKnown:
        return least_known_peak(
            step.footprint,
            time_limit=self.deadline.share(_A_SOLVE),
            seed=self.options.seed,
            start=start,
        )

    def _within(self, most: float, low: int, top: int) -> tuple[int, float | None]:
        """Largest batch between two whose plan takes at most so much extra compute."""
        low, high = max(low, 1), top + 1
        while high - low > max(1, low // FINE):
            middle = (low + high) // 2
            overhead = self._overhead(self.batches.sketch(middle))
            low, high = (middle, high) if overhead <= most else (low, middle)
        while low > 1 and self._overhead(self.batches.exact(low)) > most:
            low -= 1
        more = max(1, low // FINE)
        while low + more <= top:
            beyond = self._overhead(self.batches.exact(low + more))
            if beyond > most:
                return low, beyond
            low += more
        return low, None

    def _overhead(self, step: Step) -> float:
        """Extra compute of the best plan found, infinite if there is none."""
        try:
            return self._plan(step).overhead
        except InfeasibleBudget:  # a sketch may be a little larger than the step itself
            return math.inf

    def _plan(self, step: Step) -> Plan:
        """A plan that is never worse than any found so far for any batch size."""
        room = step.footprint.problem(self.budget)
        known = [*self.known, *([self.leanest] if self.leanest is not None else [])]
        known = [schedule for schedule in known if _is_of(schedule, step)]
        traces = [(simulate(step.graph, schedule), schedule) for schedule in known]
        fitting = [(t.cost, i) for i, (t, _) in enumerate(traces) if t.peak <= room.budget]
        start = traces[min(fitting)[1]][1] if fitting else known[-1] if known else None
        plan = self._planned(step, start)
        self.known = [*self.known[-_KNOWN:], plan.schedule]
        logger.info("a plan with %.1f %% extra compute, %.1f s", 100 * plan.overhead, plan.runtime)
        return plan

    def _planned(self, step: Step, start: Schedule | None) -> Plan:
        seconds = self.deadline.share(_A_SOLVE)
        return plan_step(step, self.budget, start=start, time_limit=seconds, seed=self.options.seed)


def _is_of(schedule: Schedule, step: Step) -> bool:
    """Whether a schedule runs the ops of a step: one sample alone is often traced otherwise."""
    return max(schedule.order, default=-1) + 1 == len(step.graph.ops)


def _unplanned_peak(step: Step) -> int:
    return step.footprint.unplanned_peak


def _bound_peak(step: Step) -> int:
    return step.footprint.peak_lower_bound
