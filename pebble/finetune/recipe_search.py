"""The search for the fastest recipe: quick looks at all, longer ones at the most promising."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pebble.budget import least_known_peak
from pebble.deadline import Deadline
from pebble.errors import InfeasibleBudget
from pebble.finetune.recipes import Choice, Recipe
from pebble.finetune.step_families import Families
from pebble.finetune.variants import seconds_to_step, with_accumulation, with_buckets
from pebble.formatting import gigabytes
from pebble.measure.step import Step
from pebble.plan.optimization import plan_step
from pebble.progress import open_line
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import solve

TIE = 0.005
"""Recipes whose predicted times differ by less are a tie: the one with more room left wins."""
_REFINED = 4  # recipes that get a longer search at most
_PATIENCE_SECONDS = 15.0  # for a second trace, whatever is left of the time limit
_EXACT_SECONDS = 10.0  # for a plan on a trace of its own, whatever is left of the time limit


@dataclass
class Trial:
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


class RecipeSearch:
    """Looks at choices, from quick looks at all to exact plans for the best."""

    def __init__(
        self,
        families: Families,
        budget: int,
        effective: int,
        devices: int,
        deadline: Deadline,
        seed: int,
    ) -> None:
        self.families, self.budget = families, budget
        self.effective, self.devices, self.seed = effective, devices, seed
        self.deadline = deadline
        self.micro_batches = _divisors(effective // devices)
        self._leanest: dict[tuple[str, int, int], Schedule] = {}

    def accumulation_steps(self, choice: Choice) -> int:
        """Micro-batches of an optimizer step."""
        return self.effective // (choice.micro_batch * self.devices)

    def step(self, choice: Choice) -> Step:
        """The step of a choice, with the gradients that other micro-batches leave."""
        return self._as_trained(choice, self.families.of(choice).sketch(choice.micro_batch))

    def runnable_step(self, choice: Choice, *, exact: bool) -> Step:
        """The same with a graph of this size: traced at it, or the one trace rescaled to it."""
        batches = self.families.of(choice)
        made = batches.exact if exact or not batches.fake else batches.rescaled
        return self._as_trained(choice, made(choice.micro_batch))

    def _as_trained(self, choice: Choice, step: Step) -> Step:
        step = with_accumulation(step, self.accumulation_steps(choice))
        return with_buckets(step) if self.devices > 1 else step

    def seconds(self, choice: Choice, step: Step, cost: int) -> float:
        """Of an effective batch whose forward and backward cost so many nanoseconds each."""
        return self.accumulation_steps(choice) * cost / 1e9 + seconds_to_step(step)

    def look(self, choice: Choice) -> Trial:
        """What quick solvers make of a choice."""
        open_line().part(str(choice))
        step = self.step(choice)
        kept, unplanned = step.footprint.unplanned_peak, step.one_piece.footprint.unplanned_peak
        optimistic = self.seconds(choice, step, step.graph.total_cost)
        trial = Trial(choice, step, optimistic, None, optimistic, kept, unplanned)
        if kept <= self.budget:
            self._take(trial, Schedule.keep_all(step.graph))
        elif step.footprint.peak_lower_bound > self.budget:
            trial.peak = step.footprint.peak_lower_bound
        else:
            for schedule in self._quick(trial):
                self._take(trial, schedule)
        return trial

    def _quick(self, trial: Trial) -> list[Schedule]:
        room = trial.step.footprint.problem(self.budget)
        found = [solve(room, name, time_limit=5.0).schedule for name in ("greedy", "sqrt")]
        schedules = [s for s in found if s is not None]
        return schedules or [self.leanest(trial.choice, trial.step)]

    def leanest(self, choice: Choice, step: Step) -> Schedule:
        """The schedule of least peak known for the ops of a step."""
        key = (choice.precision, choice.chunks, len(step.graph.ops))
        if key not in self._leanest:
            limit = min(10.0, max(self.deadline.share(1 / 6), 1.0))
            least = least_known_peak(step.footprint, time_limit=limit, seed=self.seed)
            self._leanest[key] = least.schedule
        return self._leanest[key]

    def least(self, trials: Sequence[Trial]) -> tuple[Choice, int]:
        """The choice of least peak known at the smallest micro-batch, and that peak."""
        micro = self.micro_batches[0]
        choices = dict.fromkeys(replace(t.choice, micro_batch=micro) for t in trials)
        found = [(self.least_peak(choice), i) for i, choice in enumerate(choices)]
        peak, which = min(found)
        return list(choices)[which], peak

    def least_peak(self, choice: Choice) -> int:
        """The least peak known for a choice."""
        step = self.step(choice)
        return step.footprint.peak(self.leanest(choice, step))

    def known_leanest(self, trial: Trial) -> Schedule | None:
        """The same for the choice with its loss in one piece, if it was needed so far."""
        plain = replace(trial.choice, chunks=0)
        step = self.step(plain)
        return self._leanest.get((plain.precision, 0, len(step.graph.ops)))

    def _take(self, trial: Trial, schedule: Schedule) -> None:
        """Keep a schedule if it fits and is the cheapest so far."""
        step = trial.step
        trace = simulate(step.graph, schedule)
        peak = step.resident.whole_step_peak(trace.peak)
        seconds = self.seconds(trial.choice, step, trace.cost)
        if peak > self.budget:
            trial.peak = peak if trial.schedule is None else trial.peak
        elif trial.schedule is None or seconds < trial.seconds:
            trial.schedule, trial.seconds, trial.peak = schedule, seconds, peak
            cost = step.one_piece.graph.total_cost
            trial.overhead = trace.cost / max(cost, 1) - 1

    def refine(self, trials: Sequence[Trial]) -> None:
        """A longer search for those that could still be the fastest, most promising first."""
        open_ = sorted((t for t in trials if t.schedule is not None), key=lambda t: t.optimistic)
        for done, trial in enumerate(open_[:_REFINED]):
            best = min(t.seconds for t in open_)
            if trial.optimistic >= best or trial.overhead <= 0:
                continue
            open_line().part(f"a longer search for {trial.choice}")
            room = trial.step.footprint.problem(self.budget)
            limit = self.deadline.share(1 / (min(len(open_), _REFINED) - done + 1))
            options: dict[str, Any] = {"start": trial.schedule}
            result = solve(room, "auto", time_limit=limit, seed=self.seed, **options)
            if result.schedule is not None:
                self._take(trial, result.schedule)

    def settle(self, fitting: list[Trial]) -> tuple[Trial, tuple[str, ...]]:
        """The fastest, planned on a trace of its own; ties go to the larger margin."""
        ranked = sorted(fitting, key=rank)
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

    def _plan_exactly(self, trial: Trial) -> bool:
        open_line().part(f"a trace of its own for {trial.choice}")
        exact = self._has_time_to_trace(trial.choice)
        step = self.runnable_step(trial.choice, exact=exact)
        same = len(step.graph.ops) == len(trial.step.graph.ops)
        start = trial.schedule if same else None
        if start is None or not step.footprint.fits(start, self.budget):
            least = least_known_peak(step.footprint, time_limit=_EXACT_SECONDS, seed=self.seed)
            start = least.schedule
            if least.peak_bytes > self.budget:
                trial.schedule, trial.peak = None, least.peak_bytes
                return False
        try:
            limit = _EXACT_SECONDS
            plan = plan_step(step, self.budget, time_limit=limit, seed=self.seed, start=start)
        except InfeasibleBudget as error:  # of what a card reserves
            trial.schedule, trial.peak = None, error.least_bytes or trial.peak
            return False
        trial.step, trial.schedule = step, plan.schedule
        trial.plan, trial.exact = plan, exact
        trial.seconds = self.seconds(trial.choice, step, plan.cost)
        trial.peak, trial.overhead = plan.peak_bytes, plan.overhead
        trial.unplanned = step.one_piece.footprint.unplanned_peak
        return True

    def _has_time_to_trace(self, choice: Choice) -> bool:
        """Whether a recipe is traced at its own batch: a large model only where time is left."""
        batches = self.families.of(choice)
        patience = max(self.deadline.left, _PATIENCE_SECONDS)
        return not batches.fake or batches.trace_seconds <= patience

    def recipe(self, trial: Trial) -> Recipe:
        """A trial as a recipe."""
        return Recipe(
            choice=trial.choice,
            accumulation_steps=self.accumulation_steps(trial.choice),
            devices=self.devices,
            budget_bytes=self.budget,
            peak_bytes=trial.peak,
            unplanned_peak_bytes=trial.unplanned,
            overhead=trial.overhead,
            seconds=trial.seconds,
            exact=trial.exact,
            plan=trial.plan,
        )


def rank(trial: Trial) -> tuple[bool, float]:
    """Those that fit by their time, then the others by their peak."""
    return trial.schedule is None, trial.peak if trial.schedule is None else trial.seconds


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]
