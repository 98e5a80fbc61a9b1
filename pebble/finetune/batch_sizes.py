"""The largest batch that a budget holds, with and without a plan, found by planning."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.plan.optimization import (
    ChunkedLoss,
    check_chunked_loss,
    least_budget,
    plan_step,
    whole_budget,
)
from pebble.plan.plan import Plan
from pebble.plan.report import gigabytes, table
from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import solve

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pebble.finetune.steps_by_batch import Batches
    from pebble.measure.step import Step

logger = logging.getLogger("pebble")

LARGEST = 2**14
"""Batch sizes above this are not looked for."""
_FINE = 50  # batches that an allowance of compute allows are found to one part in so many
_KNOWN = 8  # plans of other batch sizes that a new one begins with


@dataclass(frozen=True)
class BatchSizes:
    """How many samples a budget holds.

    Attributes
    ----------
    budget_bytes : int
    unplanned, planned : int
        Largest batch without and with a plan; 0 if not even one sample fits.
    most : int
        Largest batch that some schedule holds, at any extra compute.
    whole, whole_most : int
        The same two with the loss in one piece.
    limit : int
        No schedule of any kind holds a larger batch with the loss in one piece: one op's inputs
        and outputs, and what must be there beside them, are too large.
    unplanned_peak_bytes : int
        Of the largest batch without a plan.
    next_peak_bytes : int
        The least peak known for one sample more than `most`.
    next_overhead : float or None
        Extra compute that one sample more (2 % more, beyond 50) would take, where that is what
        `max_overhead` excludes.
    max_overhead : float or None
        Extra compute that was allowed, as a fraction.
    plan : Plan or None
        For `planned` samples.
    leanest : Schedule or None
        For `most` samples, its loss in the plan's chunks.
    """

    budget_bytes: int
    unplanned: int
    planned: int
    most: int
    whole: int
    whole_most: int
    limit: int
    unplanned_peak_bytes: int
    next_peak_bytes: int
    next_overhead: float | None
    max_overhead: float | None
    plan: Plan | None = field(default=None, repr=False, compare=False)
    leanest: Schedule | None = field(default=None, repr=False, compare=False)

    @property
    def gain(self) -> int:
        """Samples that the plan buys."""
        return self.planned - self.unplanned

    def __str__(self) -> str:
        plan, chunks = self.plan, 0 if self.plan is None else self.plan.chunks
        rows = [["no plan", str(self.unplanned), gigabytes(self.unplanned_peak_bytes), "0.0 %"]]
        if chunks:
            rows.append(["with a plan, loss in one piece", str(self.whole), "", ""])
        if plan is not None:
            name = f"with a plan, loss in {chunks} chunks" if chunks else "with a plan"
            extra = f"{100 * plan.overhead:.1f} %"
            rows.append([name, str(self.planned), gigabytes(plan.peak_bytes), extra])
        if self.most > self.planned:
            rows.append(["at any extra compute", str(self.most), "", ""])
        of_what = " with the loss in one piece" if chunks else ""
        rows.append([f"no schedule above{of_what}", str(self.limit), "", ""])
        header = ["", "batch", "peak", "extra compute"]
        if self.next_overhead is None:
            reason = f"{gigabytes(self.next_peak_bytes)}, the least known"
        else:
            reason = f"{100 * self.next_overhead:.1f} % extra compute"
        return (
            f"Within {gigabytes(self.budget_bytes)} the plan buys {self.gain} more samples; "
            f"{'one' if self.next_overhead is None or self.planned < _FINE else '2 %'} more would "
            f"need {reason}.\n\n{table(header, rows)}"
        )


def max_batch_size(
    model: nn.Module,
    inputs: Any = None,
    *,
    budget_gb: float | None = None,
    budget_bytes: int | None = None,
    max_overhead: float | None = None,
    optimizer: str | torch.optim.Optimizer | None = "adamw",
    outputs: Literal["all", "loss"] = "all",
    chunked_loss: ChunkedLoss = "auto",
    loss: Callable[[Any], torch.Tensor] | None = None,
    costs: str = "auto",
    seq_len: int | None = None,
    time_limit: float = 10.0,
    seed: int = 0,
) -> BatchSizes:
    """The largest micro-batch whose training step fits a budget; nothing is run to find it.

    Parameters
    ----------
    model : nn.Module
        Real or fake tensors.
    inputs : callable, tensor, tuple, mapping or None
        A function of the batch size that makes inputs; or example inputs, whose tensors are
        repeated along their first dimension; or None where inputs can be inferred.
    budget_gb, budget_bytes : float, int
        For the whole step, as in `pebble.optimize`.
    max_overhead : float, optional
        The most extra compute that the plan may take, as a fraction; default: any.
    chunked_loss : "auto", int or False
        Head and loss in chunks of tokens: where that holds a larger batch, in so many, or never.
    optimizer, outputs, loss, costs, seed
        As in `pebble.optimize`.
    seq_len : int, optional
        For inferred inputs of Hugging Face models.
    time_limit : float
        Seconds for each solve; there are about ten.

    Returns
    -------
    BatchSizes

    Raises
    ------
    InfeasibleBudget
        If no plan holds a single sample.
    InvalidArgument, InputsRequired, CaptureError

    Examples
    --------
    >>> import torch, pebble
    >>> net = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(8)])
    >>> sizes = pebble.max_batch_size(net, torch.ones(1, 64), budget_gb=0.001, time_limit=1.0)
    >>> sizes.planned > sizes.unplanned > 0
    True
    """
    from pebble.finetune.steps_by_batch import Batches

    check_chunked_loss(chunked_loss)
    budget = whole_budget(budget_gb, budget_bytes)
    if max_overhead is not None and not max_overhead >= 0:
        raise InvalidArgument(f"max_overhead is {max_overhead!r}; it must not be negative.")
    batches = Batches(
        model, inputs, seq_len=seq_len, loss=loss, optimizer=optimizer, costs=costs, outputs=outputs
    )
    return _Search(batches, budget, time_limit, seed).run(max_overhead, chunked_loss)


@dataclass(frozen=True)
class _Found:
    """The largest batch of a plan, what one more would take, and the plan."""

    batch: int
    most: int
    next_peak: int
    next_overhead: float | None
    plan: Plan | None
    leanest: Schedule | None = None


class _Search:
    def __init__(self, batches: Batches, budget: int, time_limit: float, seed: int) -> None:
        self.batches, self.budget = batches, budget
        self.time_limit, self.seed = time_limit, seed
        self.leanest: Schedule | None = None
        self.fitting: Schedule | None = None
        self.known: list[Schedule] = []

    def run(self, max_overhead: float | None, chunked: ChunkedLoss) -> BatchSizes:
        self._anchor()
        unplanned = self._largest_exact(keep_all_peak)
        unplanned_peak = keep_all_peak(self.batches.exact(max(unplanned, 1)))
        found = self.planned(max_overhead, unplanned)
        limit = self._limit(found.most)
        best = found
        split = None if chunked is False else self._split(chunked, max(found.batch, 1))
        if split is not None:
            other = split.planned(max_overhead, unplanned)
            best = other if other.batch > found.batch or chunked != "auto" else found
        if best.plan is None:  # not even one sample: say why
            plan_step(self.batches.exact(1), self.budget, time_limit=self.time_limit)
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

    def planned(self, max_overhead: float | None, unplanned: int) -> _Found:
        """The largest batch that a plan holds, and why not one more."""
        most, least = self._leanest(unplanned)
        if most == 0:
            return _Found(0, 0, least, None, None)
        batch, overhead = most, None
        if max_overhead is not None:
            batch, overhead = self._within(max_overhead, unplanned, most)
        plan = self._plan(self.batches.exact(batch))
        return _Found(batch, most, least, overhead, plan, self.fitting)

    def _split(self, chunked: ChunkedLoss, batch: int) -> _Search | None:
        """The same search with the loss in chunks, as many as twice the batch calls for."""
        from pebble.tracing.chunked_loss import suggest_chunks
        from pebble.tracing.loss_region import find_region

        step = self.batches.sketch(batch)
        try:
            chunks = chunked
            if chunked == "auto":
                if find_region(self.batches.captured(batch)).rows <= 2 * batch:
                    return None  # a classifier: its head is not what is large
                room = self.budget - step.resident.total
                chunks = suggest_chunks(self.batches.captured(2 * batch), room)
            batches = self.batches.chunked(int(chunks))
            batches.exact(batch)
        except InvalidArgument:
            if chunked != "auto":
                raise
            return None
        return _Search(batches, self.budget, self.time_limit, self.seed)

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
        low, high = most, max(self._largest_sketched(bound_peak), most) + 1
        while high - low > 1:
            middle = (low + high) // 2
            fits = self._proved_peak(self.batches.sketch(middle)) <= self.budget
            low, high = (middle, high) if fits else (low, middle)
        return low

    def _proved_peak(self, step: Step) -> int:
        """A peak that no schedule undercuts, what is pinned or runs only once counted."""
        top = Problem(step.graph, simulate(step.graph, Schedule.keep_all(step.graph)).peak)
        result = solve(replace(top, objective=Objective.PEAK), "minpeak", time_limit=0.01)
        return step.resident.whole_step_peak(max(result.lower_bound, top.working_set_bound))

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
        assert self.leanest is not None
        return step.resident.whole_step_peak(simulate(step.graph, self.leanest).peak)

    def _lower(self, step: Step) -> int:
        """The least peak known for a step; its schedule is remembered.

        A search that begins with another batch's schedule is quick but may be stuck near it, so
        one that begins anew has the last word on what does not fit.
        """
        if self.leanest is not None:
            top = Problem(step.graph, simulate(step.graph, self.leanest).peak, Objective.PEAK)
            options: dict[str, Any] = {"start": self.leanest}
            result = solve(top, "minpeak", time_limit=self.time_limit, seed=self.seed, **options)
            self.leanest = result.schedule or self.leanest
            peak = self._leanest_peak(step)
            if peak <= self.budget:
                return peak
        known = self.leanest
        least, self.leanest = least_budget(step, time_limit=self.time_limit, seed=self.seed)
        if known is not None and peak <= least:
            self.leanest = known
        return self._leanest_peak(step)

    def _within(self, most: float, low: int, top: int) -> tuple[int, float | None]:
        """Largest batch between two whose plan takes at most so much extra compute."""
        low, high = max(low, 1), top + 1
        while high - low > max(1, low // _FINE):
            middle = (low + high) // 2
            overhead = self._overhead(self.batches.sketch(middle))
            low, high = (middle, high) if overhead <= most else (low, middle)
        while low > 1 and self._overhead(self.batches.exact(low)) > most:
            low -= 1
        more = max(1, low // _FINE)
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
        room = Problem(step.graph, max(self.budget - step.resident.total, 0))
        known = [*self.known, *([self.leanest] if self.leanest is not None else [])]
        traces = [(simulate(step.graph, schedule), schedule) for schedule in known]
        fitting = [(t.cost, i) for i, (t, _) in enumerate(traces) if t.peak <= room.budget]
        start = traces[min(fitting)[1]][1] if fitting else self.leanest
        plan = plan_step(step, self.budget, time_limit=self.time_limit, seed=self.seed, start=start)
        self.known = [*self.known[-_KNOWN:], plan.schedule]
        logger.info("a plan with %.1f %% extra compute, %.1f s", 100 * plan.overhead, plan.runtime)
        return plan


def keep_all_peak(step: Step) -> int:
    """Peak of the whole step without a plan, in bytes."""
    return step.resident.whole_step_peak(simulate(step.graph, Schedule.keep_all(step.graph)).peak)


def bound_peak(step: Step) -> int:
    """A peak of the whole step that no schedule undercuts, in bytes."""
    return step.resident.whole_step_peak(Problem(step.graph, 0).working_set_bound)
