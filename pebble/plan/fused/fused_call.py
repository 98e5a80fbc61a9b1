"""A graph of dynamo that plans itself when it is called, and runs as inductor compiled it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx

from pebble.budget import Footprint
from pebble.deadline import Deadline
from pebble.errors import BudgetNotKept, InfeasibleBudget
from pebble.formatting import gigabytes
from pebble.notices import warn
from pebble.options import SearchOptions, StepOptions
from pebble.plan.fused.joint import FusedStep, see_step, with_fixed_sizes
from pebble.plan.fused.measured_run import measured_peak
from pebble.plan.fused.rounds import FusedReport, plan_in_rounds
from pebble.plan.fused.shared_budget import (
    Share,
    SharedBudget,
    gradient_bytes,
    parameter_storages,
)
from pebble.plan.infeasible import infeasible_budget
from pebble.plan.search import PlanSearch
from pebble.referee import simulate
from pebble.schedule import Schedule

logger = logging.getLogger("pebble")

_LEAN = 0.3
"""From the least peak to everything kept: what a graph gets that the others left too little for."""
_SHARES = (0.5, 0.25)
"""Of the time limit: for the plan of the first round, and of every later one."""


@dataclass(frozen=True)
class FusedAsked:
    """What fused steps are planned for.

    Attributes
    ----------
    budget_bytes : int
        For the whole step.
    step : StepOptions
        Of which `optimizer` and `costs` are read.
    search : SearchOptions
    on_report : callable, optional
        Is given the `FusedReport` of each plan.
    """

    budget_bytes: int
    step: StepOptions
    search: SearchOptions
    on_report: Callable[[FusedReport], Any] | None = field(default=None, repr=False)


class FusedCall:
    """Runs a graph of dynamo by plans within a budget, kernels fused.

    The first call with inputs of new sizes traces the step, plans it, compiles it and measures it
    on those inputs.

    Parameters
    ----------
    module : fx.GraphModule
        As dynamo gives it; sizes may be symbolic.
    asked : FusedAsked
    shared : SharedBudget
        Of all graphs of the model.
    """

    def __init__(self, module: fx.GraphModule, asked: FusedAsked, shared: SharedBudget) -> None:
        self.module = module
        self.asked = asked
        self.shared = shared
        self._symbolic = _has_symbolic_inputs(module)
        self._known: dict[Any, Callable[..., Any]] = {}
        self._beside = 0  # of other graphs, when this one was planned

    def __call__(self, *inputs: Any) -> Any:
        """What the graph returns for these inputs."""
        self.shared.begins(self)
        if self._known and not self.shared.is_kept and self._beside != self._demand(inputs):
            self._known.clear()
        key = _sizes(inputs) if self._symbolic else None
        run = self._known.get(key)
        if run is None:
            run = self._known[key] = self._made(inputs)
        made = run(*(_tensors(inputs) if self._symbolic else inputs))
        self._tell_backward(made)
        return made

    def _tell_backward(self, made: Sequence[Any]) -> None:
        """Have the others know when the backward of this call begins."""
        roots = [t.grad_fn for t in made if isinstance(t, torch.Tensor) and t.grad_fn is not None]
        if roots:
            roots[0].register_prehook(lambda gradients: self.shared.ends(self))
        else:
            self.shared.ends(self)

    def _demand(self, inputs: Sequence[Any]) -> int:
        """Bytes that this graph must leave to the others."""
        beside = self.shared.beside_bytes(self, parameter_storages(inputs))
        return beside + self.shared.later_bytes(self)

    def _made(self, inputs: Sequence[Any]) -> Callable[..., Any]:
        module = self.module
        if self._symbolic:
            module, inputs = with_fixed_sizes(module, inputs), _tensors(inputs)
        step = see_step(module, inputs, self.asked.step)
        if not isinstance(step, FusedStep):
            return step
        self._beside = self._demand(inputs)
        found = self._within(step)
        parameters = parameter_storages(inputs)
        graph_peak = found.report.measured_bytes - step.footprint.resident.total
        own = Share(
            parameters=parameters,
            resident_bytes=step.footprint.resident.total,
            peak_bytes=max(graph_peak - found.beside_bytes, 0),
            held_bytes=found.held_bytes,
            gradient_bytes=gradient_bytes(inputs),
        )
        self.shared.shares[self] = own
        if not self.shared.is_kept:
            warn(
                "A model that torch.compile takes apart has run its first graphs by plans that "
                "leave too little for the later ones: this step needs "
                f"{gigabytes(self.shared.peak_bytes)}, above its budget of "
                f"{gigabytes(self.shared.budget_bytes)}. Those graphs are planned again at their "
                "next call.",
                BudgetNotKept,
            )
        logger.info("%s", found.report)
        if self.asked.on_report is not None:
            self.asked.on_report(found.report)
        return found.run

    def _within(self, step: FusedStep) -> Found:
        """A plan beside the other graphs; where those that ran leave too little, a lean one."""
        beside = self.shared.beside_bytes(self, parameter_storages(step.inputs))
        later = self.shared.later_bytes(self)
        first = not self.shared.earlier(self) or self in self.shared.shares
        try:
            return fused_within(step, self.asked, beside, later)
        except InfeasibleBudget:
            if first:
                raise
        least = _search(self.asked, self.asked.budget_bytes, 0.5).least(step.footprint).peak_bytes
        lean = int((1 - _LEAN) * least + _LEAN * step.footprint.unplanned_peak)
        return fused_within(step, replace(self.asked, budget_bytes=lean))


@dataclass(frozen=True)
class Found:
    """A compiled step and its plan.

    Attributes
    ----------
    run : callable
    report : FusedReport
    beside_bytes : int
        Of other graphs, which the report's bytes count.
    held_bytes : int
        Between its forward and its backward.
    """

    run: Callable[..., Any] = field(repr=False)
    report: FusedReport
    beside_bytes: int
    held_bytes: int


def fused_within(
    step: FusedStep, asked: FusedAsked, beside_bytes: int = 0, later_bytes: int = 0
) -> Found:
    """A compiled step whose measured peak is within the budget, and how it was found.

    Parameters
    ----------
    step : FusedStep
    asked : FusedAsked
    beside_bytes : int
        Of other graphs, there all the time.
    later_bytes : int
        Of other graphs, there between the forward and the backward of this one.

    Raises
    ------
    InfeasibleBudget
        If there is none.
    """
    footprint = _beside(step.footprint, beside_bytes, later_bytes)
    budget, resident = asked.budget_bytes, footprint.resident
    if not resident.admits(budget):
        least = _search(asked, budget, 1.0).least(footprint)
        raise infeasible_budget(footprint, budget, least, subject="this compiled graph")

    def measure(schedule: Schedule) -> tuple[tuple[Callable[..., Any], int], int]:
        run = step.compiled(schedule)
        peak = measured_peak(run, step.inputs, step.device)
        held = _held_bytes(step.footprint, schedule)
        more = held + later_bytes if later_bytes else 0
        return (run, held), resident.whole_step_peak(max(peak, more))

    (run, held), report = plan_in_rounds(footprint, budget, _Planner(footprint, asked), measure)
    return Found(run, report, beside_bytes, held)


def _beside(footprint: Footprint, beside_bytes: int, later_bytes: int) -> Footprint:
    """The step with bytes of other graphs: all the time, and while the caller has its outputs."""
    graph, resident = footprint.graph, footprint.resident
    if beside_bytes:
        resident = resident.with_kind("other graphs", beside_bytes)
    if later_bytes:
        workspaces = [op.workspace for op in graph.ops]
        assert graph.boundary is not None
        workspaces[graph.boundary] += later_bytes
        graph = graph.with_measures(workspaces=workspaces)
    return Footprint(graph, resident)


def _held_bytes(footprint: Footprint, schedule: Schedule) -> int:
    """Bytes between the forward and the backward, as the graph counts them."""
    graph = footprint.graph
    assert graph.boundary is not None
    at = schedule.order.index(graph.boundary)
    return int(simulate(graph, schedule).live[at]) - graph.ops[graph.boundary].workspace


class _Planner:
    """Plans round by round."""

    def __init__(self, footprint: Footprint, asked: FusedAsked) -> None:
        self.footprint = footprint
        self.asked = asked
        self.rounds = 0

    def __call__(self, budget_bytes: int) -> Schedule:
        share = _SHARES[min(self.rounds, len(_SHARES) - 1)]
        self.rounds += 1
        search = _search(self.asked, budget_bytes, share)
        result = search.find(self.footprint)
        if result is not None and result.schedule is not None:
            return result.schedule
        return search.least(self.footprint).schedule


def _search(asked: FusedAsked, budget_bytes: int, share: float) -> PlanSearch:
    options = replace(asked.search, time_limit=share * asked.search.time_limit)
    return PlanSearch(budget_bytes, options, Deadline(options.time_limit))


def _has_symbolic_inputs(module: fx.GraphModule) -> bool:
    for node in module.graph.nodes:
        if node.op == "placeholder":
            example = node.meta.get("example_value", node.meta.get("val"))
            if example is not None and not isinstance(example, torch.Tensor):
                return True
            if isinstance(example, torch.Tensor) and not all(
                isinstance(n, int) for n in (*example.shape, *example.stride())
            ):
                return True
    return False


def _sizes(inputs: Sequence[Any]) -> tuple[Any, ...]:
    return tuple((tuple(x.shape), x.stride()) if isinstance(x, torch.Tensor) else x for x in inputs)


def _tensors(inputs: Sequence[Any]) -> list[torch.Tensor]:
    return [x for x in inputs if isinstance(x, torch.Tensor)]
