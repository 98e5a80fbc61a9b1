"""A plan on a model: a module that follows it, and what that does with other calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from pebble.arguments import one_of
from pebble.errors import InvalidArgument
from pebble.measure.step import WAITING, Step
from pebble.options import SearchOptions
from pebble.plan.fused.fused_follower import EXECUTIONS, fuse
from pebble.plan.part_planning import PlansParts
from pebble.plan.replanning import FIRST_SECONDS, LATER_SECONDS, Asked, Replanner
from pebble.ranks import ALONE
from pebble.record import DEFAULT_LOSS, StepRecord
from pebble.runtime.follower import Follower, follower_of
from pebble.runtime.input_forms import InputForm
from pebble.runtime.part_follower import Parts
from pebble.runtime.planned_module import MISMATCH, build, wrap
from pebble.runtime.promise import Promise
from pebble.runtime.replanning_follower import ReplanningFollower
from pebble.schedule import Schedule
from pebble.tracing.plannable import plannable
from pebble.tracing.wrapped import inside

REPLAN = "replan"


def follow_fused(
    model: nn.Module, record: StepRecord, budget_bytes: int, seed: int, execution: str
) -> nn.Module:
    """A module that inductor compiles, planned within the budget of a plan.

    Parameters
    ----------
    record : StepRecord
        What the plan was made from.
    budget_bytes, seed : int
        Of the plan.
    execution : "inductor"

    Raises
    ------
    InvalidArgument
        If a compiled step does not do what the plan was made for.
    """
    one_of("execution", execution, EXECUTIONS)
    costs = "auto" if record.costs == "given" else record.costs
    if record.loss != DEFAULT_LOSS:
        raise InvalidArgument(
            f"execution='inductor' takes no plan with loss={record.loss}: it runs what "
            "torch.compile traces. Plan without it, or use execution='ops'."
        )
    return fuse(
        model, budget_bytes, record.options(loss=None, costs=costs), SearchOptions(seed=seed)
    )


def follow_plan(
    model: nn.Module,
    step: Step,
    schedule: Schedule,
    record: StepRecord,
    *,
    peak_bytes: int,
    budget_bytes: int,
    on_mismatch: str,
    search: Callable[[], SearchOptions],
) -> nn.Module:
    """A module that trains by a schedule of a traced step.

    Parameters
    ----------
    record : StepRecord
        What the plan was made from.
    peak_bytes, budget_bytes : int
        Of the whole step; other calls are planned within the same budget.
    on_mismatch : "error", "eager" or "replan"
    search : callable
        How other calls are planned: seed and kind of the budget. Made only where they are: a plan
        is followed without any solver.

    Raises
    ------
    InvalidArgument, InvalidSchedule, PlanMismatch
    """
    one_of("on_mismatch", on_mismatch, (*MISMATCH, REPLAN))
    model = inside(model)
    promise = Promise.of(
        step.captured,
        threads=step.record.threads,
        peak_bytes=peak_bytes,
        budget_bytes=budget_bytes,
        waiting_bytes=step.resident.kinds.get(WAITING, 0),
        resident=step.resident,
        ranks=step.options.ranks or ALONE,
    )

    def asked() -> Asked:
        # A loss in one piece stays so: in chunks it is another sum.
        how = replace(search(), time_limit=FIRST_SECONDS, chunked_loss=record.chunks or False)
        costs = "auto" if record.costs == "given" else record.costs
        options = replace(step.options, chunks=0, costs=costs)
        return Asked(budget_bytes, options, how, LATER_SECONDS)

    if on_mismatch == REPLAN:
        planner = Replanner(asked())
        planner.known.learn(step.graph, schedule)
        model = plannable(model)
        first = Follower.of(model, step.captured, schedule, promise)
        form = InputForm.of(step.inputs.args, step.inputs.kwargs)
        planned = wrap(model, ReplanningFollower(planner, [(form, first)]))
    else:
        planned = build(model, step.captured, schedule, on_mismatch=on_mismatch, promise=promise)
    if on_mismatch != "eager":
        parts = PlansParts(asked, step.resident.kinds.get("inputs", 0))
        follower_of(planned).parts = Parts(parts)
    return planned
