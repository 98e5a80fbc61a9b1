"""`recommend`: the fastest way to train with an effective batch size within a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.finetune.batch_sizes import bound_peak, keep_all_peak
from pebble.finetune.named_models import DTYPES
from pebble.finetune.recipes import HALVES, Choice, Recipe, Recommendation
from pebble.finetune.step_families import Families
from pebble.finetune.tradeoffs import knobs_of, least_change
from pebble.finetune.variants import (
    seconds_to_step,
    with_accumulation,
    with_buckets,
)
from pebble.measure.optimizers import OPTIMIZERS
from pebble.measure.step import Step
from pebble.measure.weights import FORMATS
from pebble.plan.optimization import least_budget, plan_step, whole_budget
from pebble.plan.report import gigabytes
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import solve

TIE = 0.005
"""Recipes whose predicted times differ by less are a tie: the one with more room left wins."""

PRECISIONS = (*DTYPES, *(f"{half}-mixed" for half in HALVES))
_REFINED = 4  # recipes that get a longer search at most
_EXACT_SECONDS = 10.0  # for a plan on a trace of its own, whatever is left of the time limit


def recommend(
    make_model: Callable[..., nn.Module],
    make_inputs: Any = None,
    *,
    budget_gb: float | None = None,
    budget_bytes: int | None = None,
    effective_batch_size: int = 32,
    devices: int = 1,
    precisions: Sequence[str] | None = None,
    optimizers: Sequence[str | None] = ("adamw",),
    quantize: Sequence[str | None] = (None,),
    chunked_loss: str | int | bool = "auto",
    loss: Callable[[Any], torch.Tensor] | None = None,
    costs: str = "auto",
    seq_len: int | None = None,
    time_limit: float = 60.0,
    seed: int = 0,
) -> Recommendation:
    """Rank the ways to train with an effective batch size within a budget; fastest first.

    Every divisor of the effective batch is tried as micro-batch, with every precision, optimizer
    and storage format given. The table is planned on one trace rescaled to each micro-batch; the
    best recipe is planned again on a trace of its own.

    Parameters
    ----------
    make_model : callable
        Makes the model, best on fake tensors (`pebble.finetune.named_models.build_shape`). If it has a parameter
        ``precision``, it is called with "fp32", "bf16" or "fp16".
    make_inputs : callable, tensor, tuple, mapping or None
        As for `pebble.max_batch_size`.
    budget_gb, budget_bytes : float, int
        Of one device, for the whole step.
    effective_batch_size : int
        Micro-batch x accumulation steps x devices.
    devices : int
        With data parallelism (``gradient_as_bucket_view=True``); communication is not timed.
    precisions : sequence of str, optional
        Of "fp32", "bf16", "fp16", "bf16-mixed", "fp16-mixed" (fp32 weights under autocast).
        Default: that of the model, or "bf16".
    optimizers : sequence of str or None
    quantize : sequence of "int8", "4bit", "4bit-double" or None
        Storage of frozen linear weights: their bytes and unpacking are priced in, on the graph of
        the model as it is.
    chunked_loss : "auto", int or False
        Head and loss in chunks of tokens: where that helps, in so many, or never.
    loss, seq_len, seed
        As in `pebble.optimize`.
    costs : str
        As in `pebble.optimize`; "auto" on fake tensors is the roofline of the smallest card that
        has the budget.
    time_limit : float
        Seconds for solving, all recipes together.

    Returns
    -------
    Recommendation

    Raises
    ------
    InfeasibleBudget
        If no recipe fits; names the least change that would.
    InvalidArgument, InputsRequired, CaptureError

    Examples
    --------
    >>> import torch, pebble
    >>> def net():
    ...     return torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(8)])
    >>> advice = pebble.recommend(
    ...     net, torch.ones(1, 64), budget_gb=0.002, effective_batch_size=8, time_limit=5
    ... )
    >>> advice.best.effective_batch_size, advice.best.fits
    (8, True)
    """
    began = time.perf_counter()
    budget = whole_budget(budget_gb, budget_bytes)
    _check(effective_batch_size, devices, optimizers, quantize, precisions)
    families = Families(make_model, make_inputs, budget, costs, loss, seq_len, chunked_loss)
    search = Search(families, budget, effective_batch_size, devices, time_limit, seed)
    trials = [
        search.look(choice)
        for choice in families.choices(
            search.micro_batches, precisions, list(optimizers), list(quantize)
        )
    ]
    search.refine(trials)
    fitting = [t for t in trials if t.schedule is not None]
    if not fitting:
        raise _nothing_fits(families, search, trials)
    best, notes = search.settle(fitting)
    rest = sorted((t for t in trials if t is not best), key=_rank)
    recipe = search.recipe(best)
    return Recommendation(
        model=type(families.of(best.choice).model).__name__,
        recipes=(recipe, *(search.recipe(t) for t in rest)),
        knobs=knobs_of(families, best.choice, recipe, search, search.known_leanest(best)),
        clock=families.clock,
        plain_bytes=min(t.unplanned for t in trials),
        least_bytes=search.least(trials)[1],
        notes=(*notes, *_remarks(best.choice)),
        runtime=time.perf_counter() - began,
    )


def _check(
    effective: int,
    devices: int,
    optimizers: Sequence[str | None],
    formats: Sequence[str | None],
    precisions: Sequence[str] | None,
) -> None:
    for name, number in (("effective_batch_size", effective), ("devices", devices)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InvalidArgument(f"{name} is {number!r}; it must be a positive integer.")
    if effective % devices:
        raise InvalidArgument(
            f"An effective batch of {effective} cannot be shared by {devices} devices; choose a "
            "multiple of their number."
        )
    known: dict[str, tuple[Sequence[Any], Iterable[Any]]] = {
        "optimizers": (optimizers, (None, *OPTIMIZERS)),
        "quantize": (formats, (None, *FORMATS)),
        "precisions": (precisions or (), PRECISIONS),
    }
    for name, (given, choices) in known.items():
        wrong = [item for item in given if item not in choices]
        if isinstance(given, str) or wrong:
            raise InvalidArgument(
                f"{name}={given!r} must be a sequence of {', '.join(map(str, choices))}."
            )


@dataclass
class _Trial:
    """A choice, its step, and the best schedule found for it."""

    choice: Choice
    step: Step
    optimistic: float
    schedule: Schedule | None
    seconds: float
    peak: int
    unplanned: int
    overhead: float = 0.0
    exact: bool = False
    plan: Any = None


class Search:
    """Looks at choices, from quick looks at all to exact plans for the best."""

    def __init__(
        self,
        families: Families,
        budget: int,
        effective: int,
        devices: int,
        time_limit: float,
        seed: int,
    ) -> None:
        self.families, self.budget = families, budget
        self.effective, self.devices, self.seed = effective, devices, seed
        self.deadline = time.perf_counter() + time_limit
        self.time_limit = time_limit
        self.micro_batches = _divisors(effective // devices)
        self._leanest: dict[tuple[str, int, int], Schedule] = {}

    def left(self) -> float:
        """Seconds of the time limit that are left."""
        return max(self.deadline - time.perf_counter(), 0.5)

    def accumulation(self, choice: Choice) -> int:
        """Micro-batches of an optimizer step."""
        return self.effective // (choice.micro_batch * self.devices)

    def step(self, choice: Choice, *, exact: bool = False) -> Step:
        """The step of a choice, with the gradients that other micro-batches leave."""
        batches = self.families.of(choice)
        made = batches.exact if exact else batches.sketch
        step = made(choice.micro_batch)
        step = with_accumulation(step, self.accumulation(choice))
        return with_buckets(step) if self.devices > 1 else step

    def seconds(self, choice: Choice, step: Step, cost: int) -> float:
        """Of an effective batch whose forward and backward cost so many nanoseconds each."""
        return self.accumulation(choice) * cost / 1e9 + seconds_to_step(step)

    def look(self, choice: Choice) -> _Trial:
        """What quick solvers make of a choice."""
        step = self.step(choice)
        kept, unplanned = keep_all_peak(step), keep_all_peak(step.whole or step)
        optimistic = self.seconds(choice, step, step.graph.total_cost)
        trial = _Trial(choice, step, optimistic, None, optimistic, kept, unplanned)
        if kept <= self.budget:
            self._take(trial, Schedule.keep_all(step.graph))
        elif bound_peak(step) > self.budget:
            trial.peak = bound_peak(step)
        else:
            for schedule in self._quick(trial):
                self._take(trial, schedule)
        return trial

    def _quick(self, trial: _Trial) -> list[Schedule]:
        room = Problem(trial.step.graph, self.budget - trial.step.resident.total)
        found = [solve(room, name, time_limit=5.0).schedule for name in ("greedy", "sqrt")]
        schedules = [s for s in found if s is not None]
        return schedules or [self.leanest(trial.choice, trial.step)]

    def leanest(self, choice: Choice, step: Step) -> Schedule:
        """The schedule of least peak known for the ops of a step."""
        key = (choice.precision, choice.chunks, len(step.graph.ops))
        if key not in self._leanest:
            limit = min(10.0, max(self.time_limit / 6, 1.0))
            _, self._leanest[key] = least_budget(step, time_limit=limit, seed=self.seed)
        return self._leanest[key]

    def least(self, trials: Sequence[_Trial]) -> tuple[Choice, int]:
        """The choice of least peak known at the smallest micro-batch, and that peak."""
        micro = self.micro_batches[0]
        choices = dict.fromkeys(replace(t.choice, micro_batch=micro) for t in trials)
        found = [(self.least_peak(choice), i) for i, choice in enumerate(choices)]
        peak, which = min(found)
        return list(choices)[which], peak

    def least_peak(self, choice: Choice) -> int:
        """The least peak known for a choice."""
        step = self.step(choice)
        trace = simulate(step.graph, self.leanest(choice, step))
        return step.resident.whole_step_peak(trace.peak)

    def known_leanest(self, trial: _Trial) -> Schedule | None:
        """The same for the choice with its loss in one piece, if it was needed so far."""
        plain = replace(trial.choice, chunks=0)
        step = self.step(plain)
        return self._leanest.get((plain.precision, 0, len(step.graph.ops)))

    def _take(self, trial: _Trial, schedule: Schedule) -> None:
        """Keep a schedule if it fits and is the cheapest so far."""
        step = trial.step
        trace = simulate(step.graph, schedule)
        peak = step.resident.whole_step_peak(trace.peak)
        seconds = self.seconds(trial.choice, step, trace.cost)
        if peak > self.budget:
            trial.peak = peak if trial.schedule is None else trial.peak
        elif trial.schedule is None or seconds < trial.seconds:
            trial.schedule, trial.seconds, trial.peak = schedule, seconds, peak
            cost = (step.whole or step).graph.total_cost
            trial.overhead = trace.cost / max(cost, 1) - 1

    def refine(self, trials: Sequence[_Trial]) -> None:
        """A longer search for those that could still be the fastest, most promising first."""
        open_ = sorted((t for t in trials if t.schedule is not None), key=lambda t: t.optimistic)
        for done, trial in enumerate(open_[:_REFINED]):
            best = min(t.seconds for t in open_)
            if trial.optimistic >= best or trial.overhead <= 0:
                continue
            room = Problem(trial.step.graph, self.budget - trial.step.resident.total)
            limit = self.left() / (min(len(open_), _REFINED) - done + 1)
            options: dict[str, Any] = {"start": trial.schedule}
            result = solve(room, "auto", time_limit=limit, seed=self.seed, **options)
            if result.schedule is not None:
                self._take(trial, result.schedule)

    def settle(self, fitting: list[_Trial]) -> tuple[_Trial, tuple[str, ...]]:
        """The fastest, planned on a trace of its own; ties go to the larger margin."""
        ranked = sorted(fitting, key=_rank)
        for fastest in ranked:
            tied = [t for t in ranked if t.seconds <= (1 + TIE) * fastest.seconds]
            tied = tied[tied.index(fastest) :]
            best = min(tied, key=lambda t: (t.peak, t.seconds))
            if self._plan_exactly(best):
                break
        else:
            raise InfeasibleBudget(
                f"No recipe that fits {gigabytes(self.budget)} on a rescaled trace fits on a trace "
                "of its own; try a budget a few per cent larger.",
                budget_bytes=self.budget,
            )
        if len(tied) == 1:
            return best, ()
        others = "; ".join(str(t.choice) for t in tied if t is not best)
        note = (
            f"Within {TIE:.1%} of the fastest time there are {len(tied)} recipes; of these the "
            f"first in the table leaves the most memory free (the others: {others})."
        )
        return best, (note,)

    def _plan_exactly(self, trial: _Trial) -> bool:
        step = self.step(trial.choice, exact=True)
        same = len(step.graph.ops) == len(trial.step.graph.ops)
        start = trial.schedule if same else None
        if start is None or not self._fits(step, start):
            least, start = least_budget(step, time_limit=_EXACT_SECONDS, seed=self.seed)
            if least > self.budget:
                trial.schedule, trial.peak = None, least
                return False
        plan = plan_step(step, self.budget, time_limit=_EXACT_SECONDS, seed=self.seed, start=start)
        trial.step, trial.schedule = step, plan.schedule
        trial.plan, trial.exact = plan, True
        trial.seconds = self.seconds(trial.choice, step, plan.cost)
        trial.peak, trial.overhead = plan.peak_bytes, plan.overhead
        trial.unplanned = keep_all_peak(step.whole or step)
        return True

    def _fits(self, step: Step, schedule: Schedule) -> bool:
        return step.resident.whole_step_peak(simulate(step.graph, schedule).peak) <= self.budget

    def recipe(self, trial: _Trial) -> Recipe:
        """A trial as a recipe."""
        return Recipe(
            choice=trial.choice,
            accumulation=self.accumulation(trial.choice),
            devices=self.devices,
            budget_bytes=self.budget,
            peak_bytes=trial.peak,
            unplanned_peak_bytes=trial.unplanned,
            overhead=trial.overhead,
            seconds=trial.seconds,
            exact=trial.exact,
            plan=trial.plan,
        )


def _rank(trial: _Trial) -> tuple[bool, float]:
    """Those that fit by their time, then the others by their peak."""
    return trial.schedule is None, trial.peak if trial.schedule is None else trial.seconds


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _remarks(choice: Choice) -> list[str]:
    """What a recipe's figures do not say by themselves."""
    if choice.quantize is None:
        return []
    return [
        f"Weights in {choice.quantize}: the plan is for the graph of the model as it is; the "
        "packed weights, and the time and room to unpack them, are priced in, not run."
    ]


def _nothing_fits(families: Families, search: Search, trials: list[_Trial]) -> InfeasibleBudget:
    choice, least = search.least(trials)
    text = (
        f"No recipe fits {gigabytes(search.budget)}: the leanest ({choice}) needs "
        f"{gigabytes(least)}. {least_change(families, search, choice, least)}"
    )
    return InfeasibleBudget(text, budget_bytes=search.budget, least_bytes=least)
