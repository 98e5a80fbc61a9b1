"""The search for a step's schedule: in one piece, in chunks; and what is said if nothing fits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pebble.budget import Footprint, LeastKnown
from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.plan.infeasible import infeasible_budget
from pebble.plan.known_schedules import KNOWN
from pebble.plan.search import PlanSearch
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Result

if TYPE_CHECKING:
    from pebble.measure.step import Step

logger = logging.getLogger("pebble")
_LARGE_OUTPUTS = 0.02
"""Share of the least budget from which outputs beside the loss are worth a word."""

Start = Callable[[Footprint, int], Schedule | None]
"""From a step and a budget for all of it to a schedule that is known to fit."""


@dataclass(frozen=True)
class Found:
    """The schedule found for a step, which may be the step that was searched in chunks."""

    step: Step
    result: Result

    @property
    def peak_bytes(self) -> int:
        """Of the whole step."""
        assert self.result.trace is not None
        return self.step.resident.whole_step_peak(self.result.trace.peak)

    @property
    def overhead(self) -> float:
        """Extra compute as a fraction of the step's compute with its loss in one piece."""
        assert self.result.trace is not None
        cost = self.step.one_piece.footprint.unplanned.cost
        return (self.result.trace.cost - cost) / max(cost, 1)


def find_within(step: Step, search: PlanSearch, start: Start | None = None) -> Found:
    """The schedule that a search finds for a step, its loss in chunks where that is asked for.

    Parameters
    ----------
    start : callable, optional
        Gives a known schedule to begin with.

    Raises
    ------
    InfeasibleBudget
        Only if no schedule is known that fits.
    """
    known = start or _nothing_known
    chunked = search.options.chunked_loss
    if chunked is not False and chunked != "auto":
        step = step.chunked(int(chunked))
    result = search.find(step.footprint, known(step.footprint, search.budget_bytes))
    if result is None and chunked == "auto":
        other = _automatically_chunked(step, search.budget_bytes)
        if other is not None and _lower(other, step):
            first = known(other.footprint, search.budget_bytes)
            step, result = _best_in_chunks(other, search, first)
    if result is None:
        least = search.least(step.footprint)
        _remember_chunks(step, least.schedule)
        result = search.adopt(step.footprint, least)
        if result is None:
            raise _infeasible(step, search.budget_bytes, least)
    assert result.schedule is not None
    _remember_chunks(step, result.schedule)
    return Found(step, result)


def _best_in_chunks(
    step: Step, search: PlanSearch, start: Schedule | None
) -> tuple[Step, Result | None]:
    """What is found for a step in chunks, or was found before with another number of chunks."""
    result = search.find(step.footprint, start)
    room = step.footprint.problem(search.budget_bytes).budget
    known = KNOWN.chunks_within(step.one_piece.graph, room)
    known.pop(step.options.chunks, None)
    chunks = min(known, key=lambda number: known[number], default=0)
    if not chunks or (result is not None and (result.objective or 0) <= known[chunks]):
        return step, result
    other = step.chunked(chunks)
    before = search.remembered(other.footprint)
    if before is None or (
        result is not None and (result.objective or 0) <= (before.objective or 0)
    ):
        return step, result
    return other, before


def _remember_chunks(step: Step, schedule: Schedule) -> None:
    if step.whole is not None:
        trace = simulate(step.graph, schedule)
        KNOWN.add_chunks(step.whole.graph, step.options.chunks, trace.peak, trace.cost)


def _nothing_known(step: Footprint, budget_bytes: int) -> None:
    """The default start."""


def _lower(step: Step, other: Step) -> bool:
    """Whether one step has a lower floor than another."""
    return step.footprint.peak_lower_bound < other.footprint.peak_lower_bound


def _automatically_chunked(step: Step, budget_bytes: int) -> Step | None:
    """The step with its loss in chunks, if it has one that can be split."""
    from pebble.tracing.chunked_loss import suggest_chunks

    room = step.footprint.problem(budget_bytes).budget
    if step.whole is not None or room == 0:
        return None
    try:
        return step.chunked(suggest_chunks(step.captured, room))
    except InvalidArgument as error:
        logger.info("%s", error)
        return None


# -- when nothing fits -----------------------------------------------------------------------


def _infeasible(step: Step, budget_bytes: int, least: LeastKnown) -> InfeasibleBudget:
    chunks = step.options.chunks
    subject = f"this model even with its loss in {chunks} chunks" if chunks else "this model"
    advice = []
    if _chunks_would_help(step, least):
        advice.append("chunked_loss='auto'")
    if _loss_alone_would_help(step, least):
        advice.append("outputs='loss'")
    return infeasible_budget(step.footprint, budget_bytes, least, subject=subject, advice=advice)


def _chunks_would_help(step: Step, least: LeastKnown) -> bool:
    """Whether the loss sets the peak and can be split."""
    from pebble.tracing.loss_region import find_region

    trace = simulate(step.graph, least.schedule)
    nodes = step.captured.op_nodes[least.schedule.order[trace.peak_step]]
    if step.whole is not None or step.footprint.in_optimizer_step(trace):
        return False
    try:
        region = find_region(step.captured)
    except InvalidArgument:
        return False
    return any(node in region.forms for node in nodes)


def _loss_alone_would_help(step: Step, least: LeastKnown) -> bool:
    """Whether the outputs beside the loss are large, and need not be handed over."""
    from pebble.tracing.signature import HELD, OutputKind

    captured, values = step.captured, step.captured.graph.values
    if captured.loss is not None or captured.loss_only:
        return False
    beside = HELD - {OutputKind.DIFFERENTIABLE}
    plain = [o.node for o in captured.outputs if o.kind in beside]
    handed = {captured.value_of[node] for node in plain if node in captured.value_of}
    held = sum(values[v].size for v in handed if not values[v].external)
    return held > _LARGE_OUTPUTS * least.peak_bytes
