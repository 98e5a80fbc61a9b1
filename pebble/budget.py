"""The budget: what is resident, what is left for the graph, whether a step fits, and its peaks.

Every comparison of a step with a budget is made here. Bytes are those of the whole training step
unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pebble.arguments import positive_number
from pebble.errors import InvalidArgument
from pebble.graph import Graph, Phase
from pebble.problem import Objective, Problem
from pebble.referee import Trace, simulate
from pebble.schedule import Schedule
from pebble.solver import solve

GRADIENTS_AND_STEP = "gradients and optimizer step"


def whole_budget(budget_gb: float | None, budget_bytes: int | None) -> int:
    """The budget in bytes.

    Raises
    ------
    InvalidArgument
        If none or both are given, or it is not a finite number of at least one byte.
    """
    if (budget_gb is None) == (budget_bytes is None):
        raise InvalidArgument("Pass one of budget_gb (10**9 bytes) and budget_bytes.")
    if budget_bytes is None:
        return _at_least_one_byte("budget_gb", budget_gb, 10**9)
    return _at_least_one_byte("budget_bytes", budget_bytes, 1)


def _at_least_one_byte(name: str, value: float | None, unit: int) -> int:
    size = int(positive_number(name, value) * unit)
    if size < 1:
        raise InvalidArgument(f"{name} is {value!r}, less than one byte; pass at least one.")
    return size


@dataclass(frozen=True)
class Resident:
    """Bytes of a step that no schedule changes.

    Attributes
    ----------
    kinds : mapping
        Bytes by kind (parameters, optimizer state, buffers, inputs ...), there during forward and
        backward beside the graph's own values.
    optimizer_step_peak : int
        Peak of the whole optimizer step; 0 without an optimizer.
    """

    kinds: Mapping[str, int]
    optimizer_step_peak: int = 0

    @property
    def total(self) -> int:
        """Sum over the kinds."""
        return sum(self.kinds.values())

    def without_optimizer(self) -> Resident:
        """The same for forward and backward only."""
        return Resident({k: v for k, v in self.kinds.items() if k != "optimizer state"})

    def with_kind(self, kind: str, size: int) -> Resident:
        """The same with so many bytes of a kind, there in the optimizer's step as well."""
        more = size - self.kinds.get(kind, 0)
        peak = self.optimizer_step_peak
        return Resident({**self.kinds, kind: size}, max(peak + more, 0) if peak else 0)

    def whole_step_peak(self, graph_peak: int) -> int:
        """Peak of the step whose forward and backward need `graph_peak` for the graph's values."""
        return max(self.total + graph_peak, self.optimizer_step_peak)

    def admits(self, budget_bytes: int) -> bool:
        """Whether a budget holds what no schedule changes; else no plan needs to be looked for."""
        return self.whole_step_peak(0) <= budget_bytes


@dataclass(frozen=True)
class Unplanned:
    """A step as it is: everything kept, the loss in one piece. Bytes of the whole step.

    Attributes
    ----------
    peak_bytes : int
    cost : int
        Nanoseconds.
    saved_bytes : int
        In memory when the backward begins.
    floor_bytes : int
        A peak that no schedule can undercut while the loss is in one piece.
    """

    peak_bytes: int
    cost: int
    saved_bytes: int
    floor_bytes: int


@dataclass(frozen=True)
class Footprint:
    """What a step needs: its graph, whose part of the peak a schedule decides, and the rest.

    Attributes
    ----------
    graph : Graph
    resident : Resident
    """

    graph: Graph = field(repr=False)
    resident: Resident

    def problem(self, budget_bytes: int, objective: Objective = Objective.COST) -> Problem:
        """The pebbling problem that a budget for the whole step leaves for the graph."""
        return Problem(self.graph, max(budget_bytes - self.resident.total, 0), objective)

    def peak(self, schedule: Schedule) -> int:
        """Peak of the whole step by a schedule."""
        return self.resident.whole_step_peak(simulate(self.graph, schedule).peak)

    def fits(self, schedule: Schedule, budget_bytes: int) -> bool:
        """Whether the step by a schedule is within a budget."""
        return self.peak(schedule) <= budget_bytes

    @cached_property
    def unplanned_trace(self) -> Trace:
        """The replay of the graph with everything kept."""
        return simulate(self.graph, Schedule.keep_all(self.graph))

    @property
    def unplanned_peak(self) -> int:
        """Peak of the whole step without a plan."""
        return self.resident.whole_step_peak(self.unplanned_trace.peak)

    @property
    def peak_lower_bound(self) -> int:
        """Peak of the whole step that no schedule undercuts: the largest working set."""
        return self.resident.whole_step_peak(Problem(self.graph, 0).working_set_bound)

    @property
    def unplanned(self) -> Unplanned:
        """Figures of the step as it is."""
        trace = self.unplanned_trace
        return Unplanned(
            peak_bytes=self.unplanned_peak,
            cost=trace.cost,
            saved_bytes=saved_bytes(self.graph, trace),
            floor_bytes=self.peak_lower_bound,
        )

    def in_optimizer_step(self, trace: Trace) -> bool:
        """Whether the peak of the whole step is the optimizer's, not that of this replay."""
        return self.resident.optimizer_step_peak > self.resident.total + trace.peak

    def kinds_at_peak(self, trace: Trace) -> dict[str, int]:
        """Bytes by kind at the moment of the whole step's peak."""
        if self.in_optimizer_step(trace):
            rest = self.resident.optimizer_step_peak - self.resident.total
            return {**self.resident.kinds, GRADIENTS_AND_STEP: rest}
        return {**self.resident.kinds, **live_kinds(self.graph, trace)}


# -- peaks that are proved, and peaks that are known ----------------------------------------------


@dataclass(frozen=True)
class LeastKnown:
    """The least budget that a step is known to work with, and the schedule that shows it."""

    peak_bytes: int
    schedule: Schedule


def least_known_peak(
    step: Footprint,
    *,
    time_limit: float = 30.0,
    seed: int = 0,
    start: Schedule | None = None,
) -> LeastKnown:
    """The least peak found for a step within a time limit (seconds).

    Parameters
    ----------
    start : Schedule, optional
        A known schedule to begin with; nothing above its peak is returned.
    """
    graph, resident = step.graph, step.resident
    begin = Schedule.keep_all(graph) if start is None else start
    top = Problem(graph, simulate(graph, begin).peak, Objective.PEAK)
    enough = max(resident.optimizer_step_peak - resident.total, 0)  # lower is of no use
    begin_with: dict[str, Any] = {} if start is None else {"start": start}
    result = solve(top, "minpeak", time_limit=time_limit, seed=seed, target=enough, **begin_with)
    schedule = result.schedule or begin
    return LeastKnown(step.peak(schedule), schedule)


def proved_peak_lower_bound(step: Footprint) -> int:
    """A peak that no schedule undercuts, what is pinned or runs only once counted.

    Sharper than `Footprint.peak_lower_bound`, and slower.
    """
    top = Problem(step.graph, step.unplanned_trace.peak, Objective.PEAK)
    proved = solve(top, "minpeak", time_limit=0.01).lower_bound
    return step.resident.whole_step_peak(max(proved, top.working_set_bound))


# -- what is in memory ---------------------------------------------------------------------------


def saved_bytes(graph: Graph, trace: Trace) -> int:
    """Bytes of the graph's values that are in memory when the backward begins."""
    return int(graph.arrays.size[list(trace.saved)].sum())


def live_values(trace: Trace, step: int) -> list[int]:
    """Indices of the graph's values that are in memory during a step, one for each copy."""
    kept = trace.kept
    found: list[int] = kept.value[(kept.start <= step) & (kept.end >= step)].tolist()
    return found


def value_kind(graph: Graph, v: int) -> str:
    """What one of the graph's own values is: "activations", "gradients" or "outputs"."""
    if not graph.values[v].pinned:
        return "activations"
    made_by = graph.ops[int(graph.arrays.producer[v])]
    return "gradients" if made_by.phase is Phase.BACKWARD else "outputs"


def live_kinds(graph: Graph, trace: Trace) -> dict[str, int]:
    """Bytes by kind at the peak of a trace: gradients, outputs, activations, workspace."""
    if not len(trace.live):
        return {}
    kinds = {"activations": 0, "gradients": 0, "outputs": 0}
    for v in live_values(trace, trace.peak_step):
        kinds[value_kind(graph, v)] += graph.values[v].size
    kinds["workspace"] = trace.peak - sum(kinds.values())
    return kinds


def fullest_moment(trace: Trace, span: slice) -> Trace:
    """The trace with its peak taken within a span of its steps."""
    at = span.start + int(trace.live[span].argmax())
    return replace(trace, peak=int(trace.live[at]), peak_step=at)
