"""The largest batch that a budget holds, with and without a plan, found by planning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pebble.errors import InvalidArgument
from pebble.pipeline import least_budget, plan_step, whole_budget
from pebble.plan import Plan
from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.report import gigabytes, table
from pebble.schedule import Schedule
from pebble.solver import solve

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pebble.step import Step
    from pebble.stretching import Batches

LARGEST = 2**14
"""Batch sizes above this are not looked for."""
_KNOWN = 8  # plans of other batch sizes that a new one begins with


@dataclass(frozen=True)
class BatchSizes:
    """How many samples a budget holds.

    Attributes
    ----------
    budget_bytes : int
    unplanned, planned : int
        Largest batch without and with a plan; 0 if not even one sample fits.
    limit : int
        No schedule of any kind holds a larger batch: one op's inputs and outputs are too large.
    unplanned_peak_bytes : int
        Of the largest batch without a plan.
    next_peak_bytes : int
        The least peak known for one sample more than `planned`.
    next_overhead : float or None
        Extra compute that one sample more would take, where that is what `max_overhead` excludes.
    max_overhead : float or None
        Extra compute that was allowed, as a fraction.
    plan : Plan or None
        For `planned` samples.
    """

    budget_bytes: int
    unplanned: int
    planned: int
    limit: int
    unplanned_peak_bytes: int
    next_peak_bytes: int
    next_overhead: float | None
    max_overhead: float | None
    plan: Plan | None = field(default=None, repr=False, compare=False)

    @property
    def gain(self) -> int:
        """Samples that the plan buys."""
        return self.planned - self.unplanned

    def __str__(self) -> str:
        plan = self.plan
        rows = [
            ["no plan", str(self.unplanned), gigabytes(self.unplanned_peak_bytes), "0.0 %"],
            [
                "with a plan",
                str(self.planned),
                "-" if plan is None else gigabytes(plan.peak_bytes),
                "-" if plan is None else f"{100 * plan.overhead:.1f} %",
            ],
            ["no schedule above", str(self.limit), "", ""],
        ]
        header = ["", "batch", "peak", "extra compute"]
        if self.next_overhead is None:
            reason = f"{gigabytes(self.next_peak_bytes)}, the least known"
        else:
            reason = f"{100 * self.next_overhead:.1f} % extra compute"
        return (
            f"Within {gigabytes(self.budget_bytes)} the plan buys {self.gain} more samples; "
            f"one more would need {reason}.\n\n{table(header, rows)}"
        )


def max_batch_size(
    model: nn.Module,
    inputs: Any = None,
    *,
    budget_gb: float | None = None,
    budget_bytes: int | None = None,
    max_overhead: float | None = None,
    optimizer: str | torch.optim.Optimizer | None = "adamw",
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
    optimizer, loss, costs, seed
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
    from pebble.stretching import Batches

    budget = whole_budget(budget_gb, budget_bytes)
    if max_overhead is not None and not max_overhead >= 0:
        raise InvalidArgument(f"max_overhead is {max_overhead!r}; it must not be negative.")
    batches = Batches(model, inputs, seq_len=seq_len, loss=loss, optimizer=optimizer, costs=costs)
    return _Search(batches, budget, time_limit, seed).run(max_overhead)


class _Search:
    def __init__(self, batches: Batches, budget: int, time_limit: float, seed: int) -> None:
        self.batches, self.budget = batches, budget
        self.time_limit, self.seed = time_limit, seed
        self.leanest: Schedule | None = None
        self.known: list[Schedule] = []

    def run(self, max_overhead: float | None) -> BatchSizes:
        self._anchor()
        unplanned = self._largest_exact(keep_all_peak)
        limit = self._largest_sketched(bound_peak)
        most, least = self._leanest(unplanned)
        if most == 0:
            plan_step(self.batches.exact(1), self.budget, time_limit=self.time_limit)
        planned, overhead = most, None
        if max_overhead is not None:
            planned, overhead = self._within(max_overhead, unplanned, most)
        plan = self._plan(self.batches.exact(planned))
        return BatchSizes(
            budget_bytes=self.budget,
            unplanned=unplanned,
            planned=planned,
            limit=limit,
            unplanned_peak_bytes=keep_all_peak(self.batches.exact(max(unplanned, 1))),
            next_peak_bytes=least,
            next_overhead=overhead,
            max_overhead=max_overhead,
            plan=plan,
        )

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
            batch = max(self._largest_sketched(peak), batch + 1)
        return batch

    # -- with a plan -------------------------------------------------------------------------

    def _leanest(self, unplanned: int) -> tuple[int, int]:
        """Largest batch that some schedule holds, and the least peak of one sample more."""
        batch = max(unplanned, 2)
        self._lower(self.batches.sketch(batch))
        batch = max(self._largest_sketched(self._leanest_peak), unplanned)
        while batch > 0 and self._lower(self.batches.exact(batch)) > self.budget:
            batch -= 1
        while True:
            peak = self._lower(self.batches.exact(batch + 1))
            if peak > self.budget:
                return batch, peak
            batch = max(self._largest_sketched(self._leanest_peak), batch + 1)
            while batch > 1 and self._leanest_peak(self.batches.exact(batch)) > self.budget:
                batch -= 1

    def _leanest_peak(self, step: Step) -> int:
        assert self.leanest is not None
        return step.resident.whole_step_peak(simulate(step.graph, self.leanest).peak)

    def _lower(self, step: Step) -> int:
        """The least peak known for a step; its schedule is remembered."""
        if self.leanest is not None:
            top = Problem(step.graph, simulate(step.graph, self.leanest).peak, Objective.PEAK)
            options: dict[str, Any] = {"start": self.leanest}
            result = solve(top, "minpeak", time_limit=self.time_limit, seed=self.seed, **options)
            self.leanest = result.schedule or self.leanest
        else:
            _, self.leanest = least_budget(step, time_limit=self.time_limit, seed=self.seed)
        return self._leanest_peak(step)

    def _within(self, most: float, low: int, top: int) -> tuple[int, float | None]:
        """Largest batch between two whose plan takes at most so much extra compute."""
        beyond: float | None = None
        low, high = max(low, 1), top + 1
        while high - low > 1:
            middle = (low + high) // 2
            plan = self._plan(self.batches.sketch(middle))
            if plan.overhead <= most:
                low = middle
            else:
                high, beyond = middle, plan.overhead
        while low > 1 and self._plan(self.batches.exact(low)).overhead > most:
            low, beyond = low - 1, None
        if beyond is None and low < top:
            beyond = self._plan(self.batches.exact(low + 1)).overhead
        return low, beyond

    def _plan(self, step: Step) -> Plan:
        """A plan that is never worse than any found so far for any batch size."""
        room = Problem(step.graph, max(self.budget - step.resident.total, 0))
        known = [*self.known, *([self.leanest] if self.leanest is not None else [])]
        traces = [(simulate(step.graph, schedule), schedule) for schedule in known]
        fitting = [(t.cost, i) for i, (t, _) in enumerate(traces) if t.peak <= room.budget]
        start = traces[min(fitting)[1]][1] if fitting else self.leanest
        plan = plan_step(step, self.budget, time_limit=self.time_limit, seed=self.seed, start=start)
        self.known = [*self.known[-_KNOWN:], plan.schedule]
        return plan


def keep_all_peak(step: Step) -> int:
    """Peak of the whole step without a plan, in bytes."""
    return step.resident.whole_step_peak(simulate(step.graph, Schedule.keep_all(step.graph)).peak)


def bound_peak(step: Step) -> int:
    """A peak of the whole step that no schedule undercuts, in bytes."""
    return step.resident.whole_step_peak(Problem(step.graph, 0).working_set_bound)
