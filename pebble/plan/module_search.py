"""From a model without a graph and a budget to a module-level plan."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pebble.block_calls import BlockCall, CallWeight
from pebble.budget import Resident
from pebble.errors import CaptureError, InfeasibleBudget, InvalidArgument, PebbleError
from pebble.formatting import gigabytes, rounded_up_gb
from pebble.measure.blocks import block_levels, parameters_fingerprint, reason_against
from pebble.measure.memory import check_optimizer
from pebble.measure.module_memory import module_memory
from pebble.measure.rank_memory import ranks_of
from pebble.measure.replay_model import ReplayModel
from pebble.options import StepOptions
from pebble.plan.module_plan import ModulePlan
from pebble.plan.module_step import ModuleStep
from pebble.plan.search import PlanSearch
from pebble.runtime.module_bench import Blocks, MeasuredStep, ModuleBench, StepOutcome
from pebble.solver import Status
from pebble.solvers.integer.cheapest_cover import Cover, cheapest_cover
from pebble.tracing.inputs import make_inputs
from pebble.tracing.plannable import plain_parts, plannable
from pebble.tracing.refusals import explain
from pebble.tracing.torch_private.fake_tensors import fake_mode_of
from pebble.tracing.training_mode import training_mode

logger = logging.getLogger("pebble")
ROUNDS = 3
"""Planned steps that are measured and corrected before a level of blocks is given up."""
_SOLVING = 0.2
"""Of the time that is left, for one choice."""


def plan_modules(
    model: Any, inputs: Any, options: StepOptions, search: PlanSearch, reason: str
) -> ModulePlan:
    """Plan a step module by module: run it, choose what runs again, run that, correct.

    Parameters
    ----------
    reason : str
        Why there is no graph.

    Raises
    ------
    InfeasibleBudget
        With the least peak that was measured.
    InvalidArgument
        If the model has fake tensors.
    CaptureError
        If the step does not run, or does not repeat itself.
    """
    began = time.perf_counter()
    if options.calls_in_flight > 1:
        raise InvalidArgument(
            "calls_in_flight is counted by plans of a graph only; plan this model module by module "
            "for one call, with as much less budget as the other calls keep."
        )
    options = replace(options, ranks=options.ranks or ranks_of(model))
    model = plannable(model)
    check_optimizer(options.optimizer, model)
    found = make_inputs(model, inputs, batch_size=options.batch_size, seq_len=options.seq_len)
    if any(fake_mode_of(t) is not None for t in (*model.parameters(), *found.tensors())):
        raise InvalidArgument(
            f"A module-level plan runs {type(model).__name__}, which has fake tensors; pass the "
            "real model and inputs."
        )
    step = ModuleStep(model, found, options)
    bench = step.bench(search.options.seed)
    with training_mode(model), plain_parts(model), bench.restored():
        made = _ModuleSearch(step, bench, search).find()
    return ModulePlan(
        budget_bytes=search.budget_bytes,
        peak_bytes=made.peak_bytes,
        baseline_peak_bytes=made.baseline_peak_bytes,
        error_share=made.error_share,
        resident=made.resident,
        calls=made.calls,
        chosen=tuple(sorted(made.blocks.chosen)),
        layered=made.blocks.layered,
        left_out=made.left_out,
        step_ns=made.step_ns,
        lower_bound=made.lower_bound,
        reason=reason,
        status=made.status,
        runtime=time.perf_counter() - began,
        seed=search.options.seed,
        record=step.record,
        fingerprint=parameters_fingerprint(model),
        shapes=tuple(tuple(t.shape) for t in found.tensors()),
        step=step,
    )


@dataclass(frozen=True)
class _Found:
    """What a search came to."""

    blocks: Blocks
    peak_bytes: int
    baseline_peak_bytes: int
    error_share: float
    resident: Resident
    calls: tuple[CallWeight, ...]
    left_out: Mapping[str, str]
    step_ns: int
    lower_bound: int
    status: Status


@dataclass
class _Level:
    """One choice of blocks, measured with everything kept and with every call replayed."""

    blocks: Blocks
    model: ReplayModel
    kept: MeasuredStep
    replayed: MeasuredStep
    costs: list[int]
    step_ns: int

    def chosen(self, numbers: Collection[int]) -> Blocks:
        calls = self.model.calls
        chosen = frozenset(calls[i] for i in numbers)
        return Blocks(self.blocks.names, chosen, self.blocks.layered)

    @property
    def weights(self) -> tuple[CallWeight, ...]:
        return tuple(map(CallWeight, self.model.calls, self.model.saved_bytes, self.costs))


@dataclass
class _ModuleSearch:
    """The search for one step; runs it on a bench, from the same state each time."""

    step: ModuleStep
    bench: ModuleBench
    search: PlanSearch
    left_out: dict[str, str] = field(default_factory=dict)
    least_bytes: int | None = None

    def find(self) -> _Found:
        """The plan of the first level of blocks that has one."""
        eager = self._eager()
        self.resident = self._resident(eager.outcome)
        self.baseline_bytes = self._whole(eager)
        if not self.resident.admits(self.search.budget_bytes):
            raise self._infeasible()
        if self.baseline_bytes <= self.search.budget_bytes:
            found = self._as_it_is(eager)
            if found is not None:
                return found
        for names in block_levels(self.step.model):
            level = self._measured_level(names, eager.outcome)
            found = None if level is None else self._within_budget(level, eager.outcome)
            if found is not None:
                return found
            if self.search.deadline.left == 0:
                break
        raise self._infeasible()

    # -- runs ------------------------------------------------------------------------------------

    def _eager(self) -> MeasuredStep:
        """The step as it is; run twice, and the same both times."""
        name = type(self.step.model).__name__
        try:
            first = self.bench.outcome(Blocks())
            eager = self.bench.measured(Blocks())
        except PebbleError:
            raise
        except Exception as error:  # the user's own forward or loss
            reason, where = explain(error)
            raise CaptureError(
                f"The step of {name} does not run on these inputs"
                f"{f' at {where}' if where else ''}: {reason}."
            ) from error
        if not eager.outcome.same_as(first):
            raise CaptureError(
                f"The step of {name} does not give the same numbers twice from the same state and "
                "random numbers, so that nothing could run again in its backward. Draw random "
                "numbers from torch, numpy or random, or from generators that its modules hold."
            )
        return eager

    def _whole(self, run: MeasuredStep) -> int:
        """Peak of the whole step; the least is remembered for what is told if nothing fits."""
        peak = self.resident.whole_step_peak(run.timeline.peak_bytes)
        self.least_bytes = min(self.least_bytes or peak, peak)
        return peak

    def _resident(self, outcome: StepOutcome) -> Resident:
        step, bench = self.step, self.bench
        given = {id(t) for t, g in zip(bench.differentiated, outcome.gradients) if g is not None}
        return module_memory(
            step.model,
            step.inputs,
            step.options.optimizer,
            trained=[p for p in step.model.parameters() if id(p) in given],
            output_bytes=outcome.output_bytes,
            accumulates=step.options.accumulates,
            ranks=step.options.ranks,
        )

    def _as_it_is(self, eager: MeasuredStep) -> _Found | None:
        """A plan that runs nothing again, where that fits."""
        step_ns = round(1e9 * self.bench.seconds(Blocks())[0])
        return self._confirmed(Blocks(), [self._whole(eager)], (), step_ns, 0)

    def _measured_level(self, names: tuple[str, ...], eager: StepOutcome) -> _Level | None:
        """Measure a level of blocks; those that may not run again are left out."""
        model = self.step.model
        names = self._without(names, {n: reason_against(model.get_submodule(n)) for n in names})
        blocks = Blocks(names, layered=self.bench.device.type == "cpu")
        kept = self.bench.measured(blocks)
        if not kept.outcome.same_as(eager):
            blocks = Blocks(names, layered=False)
            kept = self.bench.measured(blocks)
        wrote = {name: f"writes to {what} in its forward" for name, what in kept.written.items()}
        names = self._trusted(self._without(names, wrote), kept, blocks.layered, eager)
        if names != blocks.names:
            blocks = Blocks(names, layered=blocks.layered)
            kept = self.bench.measured(blocks)
        calls = kept.timeline.calls
        if not calls:
            return None
        replayed = self.bench.measured(Blocks(names, frozenset(calls), blocks.layered))
        replay_model = ReplayModel(kept.timeline, replayed.timeline)
        if not (replay_model.comparable and replayed.outcome.same_as(eager)):
            return None
        seconds, each = self.bench.seconds(blocks)
        costs = [round(1e9 * each.get(at, 0.0)) for at in calls]
        return _Level(blocks, replay_model, kept, replayed, costs, round(1e9 * seconds))

    def _without(
        self, names: tuple[str, ...], reasons: Mapping[str, str | None]
    ) -> tuple[str, ...]:
        """Names without those that have a reason against them, which is kept for the report."""
        for name in names:
            reason = reasons.get(name)
            if reason is not None:
                self.left_out[name] = reason
        return tuple(name for name in names if reasons.get(name) is None)

    def _trusted(
        self, names: tuple[str, ...], kept: MeasuredStep, layered: bool, eager: StepOutcome
    ) -> tuple[str, ...]:
        """Blocks that leave the same behind when they run again: all at once, else one by one."""
        calls = [at for at in kept.timeline.calls if at.block in names]
        if self._repeats(names, calls, layered, eager):
            return names
        reasons = {
            name: None
            if self.search.deadline.left > 0
            and self._repeats(names, [at for at in calls if at.block == name], layered, eager)
            else "does not run again to the same numbers"
            for name in names
        }
        return self._without(names, reasons)

    def _repeats(
        self, names: tuple[str, ...], calls: list[BlockCall], layered: bool, eager: StepOutcome
    ) -> bool:
        try:
            again = self.bench.outcome(Blocks(names, frozenset(calls), layered))
        except Exception as error:  # whatever a block does when it runs again
            logger.info("Blocks %s cannot run again: %s", names, error)
            return False
        return again.same_as(eager)

    # -- choices ---------------------------------------------------------------------------------

    def _within_budget(self, level: _Level, eager: StepOutcome) -> _Found | None:
        """The cheapest choice that a planned step was measured to fit with."""
        self._whole(level.replayed)
        room = self.search.budget_bytes - self.resident.total
        for _ in range(ROUNDS):
            cover = self._cover(level, room)
            if cover is None:
                break
            predicted = level.model.peak_bytes(cover.chosen)
            blocks = level.chosen(cover.chosen)
            run = self.bench.measured(blocks)
            if not run.outcome.same_as(eager):
                break
            peak = self._whole(run)
            if peak <= self.search.budget_bytes:
                said = self.resident.whole_step_peak(predicted)
                found = self._confirmed(
                    blocks, [peak, said], level.weights, level.step_ns, cover.lower_bound
                )
                if found is not None:
                    return found
            room -= max(run.timeline.peak_bytes - room, room // 100)
        whole = self._whole(level.replayed)
        if whole > self.search.budget_bytes:
            return None
        every = level.chosen(range(len(level.costs)))
        return self._confirmed(every, [whole], level.weights, level.step_ns, 0)

    def _cover(self, level: _Level, room_bytes: int) -> Cover | None:
        return cheapest_cover(
            level.costs,
            level.model.needs(room_bytes),
            time_limit=self.search.deadline.share(_SOLVING),
            seed=self.search.options.seed,
        )

    def _confirmed(
        self,
        blocks: Blocks,
        peaks: list[int],
        weights: tuple[CallWeight, ...],
        step_ns: int,
        lower_bound: int,
    ) -> _Found | None:
        """The plan of a choice, if a second run, on other random numbers, fits as well.

        Parameters
        ----------
        peaks : list of int
            Measured first, then what the model said.
        """
        second = self._whole(self.bench.measured(blocks, seed=self.bench.seed + 1))
        if second > self.search.budget_bytes:
            return None
        peak = max(peaks[0], second)
        spread = max(abs(peak - other) for other in (*peaks, second))
        cost = sum(w.cost for w in weights if w.at in blocks.chosen)
        return _Found(
            blocks=blocks,
            peak_bytes=peak,
            baseline_peak_bytes=self.baseline_bytes,
            error_share=spread / max(peak, 1),
            resident=self.resident,
            calls=weights,
            left_out=dict(self.left_out),
            step_ns=step_ns,
            lower_bound=min(lower_bound, cost),
            status=Status.OPTIMAL if cost <= lower_bound else Status.FEASIBLE,
        )

    def _infeasible(self) -> InfeasibleBudget:
        budget, least = self.search.budget_bytes, self.least_bytes
        assert least is not None
        name = type(self.step.model).__name__
        kinds = ", ".join(f"{gigabytes(n)} {kind}" for kind, n in self.resident.kinds.items() if n)
        left_out = "; ".join(f"{n} {reason}" for n, reason in self.left_out.items())
        return InfeasibleBudget(
            f"{gigabytes(budget)} is below the least that a module-level plan of {name} was "
            f"measured with, {gigabytes(least)} ({kinds}, the rest for the step)."
            f"{f' Never run again: {left_out}.' if left_out else ''} Try smaller blocks, a smaller "
            f"micro-batch, or budget_gb={rounded_up_gb(least)}.",
            budget_bytes=budget,
            least_bytes=least,
        )
