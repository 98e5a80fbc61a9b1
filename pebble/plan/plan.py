"""The plan: what a user keeps. A report, a file, and the way back to the model."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pebble.budget import Footprint, Resident, Unplanned, saved_bytes
from pebble.graph import Graph
from pebble.options import SearchOptions
from pebble.plan.cap import Cap, CardMemory
from pebble.plan.figures import PlanFigures, PlanView
from pebble.plan.infeasible import fits_no_longer
from pebble.plan.judged import Judged
from pebble.plan.kernels import kernels_text
from pebble.plan.plan_checks import Claims, check_length, check_recorded_inputs
from pebble.plan.plan_costs import PlanCosts
from pebble.plan.plan_file import file_header, write_plan_file
from pebble.plan.shown_plan import ShownPlan
from pebble.problem import Problem
from pebble.progress import progress_line
from pebble.record import StepRecord
from pebble.referee import Trace, simulate
from pebble.schedule import FREE_ORDER, Schedule, Scope
from pebble.solver import Status

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pebble.measure.step import Step
    from pebble.runtime.validation_report import Validation


@dataclass(frozen=True, repr=False)
class Plan(ShownPlan, PlanCosts, CardMemory, Judged):
    """A training step that fits its budget.

    Attributes
    ----------
    budget_bytes : int
        For the whole step.
    problem : Problem
        The graph and what the budget leaves for it.
    schedule : Schedule
    resident : Resident
    status : Status
    lower_bound : int
        On the cost in nanoseconds, for every schedule in `scope` within the budget.
    scope : Scope
    solver, seed, runtime, options
        Who found it and how; seconds.
    record : StepRecord
        What the step was made from: model, inputs, loss, outputs, optimizer, costs ...
    workspace_measured : bool
        False if it was made on fake tensors; then `apply` measures and checks the budget again.
    unchunked : Unplanned or None
        Where the head and the loss run in chunks: the step that they are compared with.
    cap : Cap
        Whether the budget is for the bytes of tensors or for what a card reserves.
    """

    budget_bytes: int
    problem: Problem = field(repr=False)
    schedule: Schedule = field(repr=False)
    resident: Resident
    status: Status
    lower_bound: int
    scope: Scope
    solver: str
    seed: int
    runtime: float
    options: Mapping[str, Any]
    record: StepRecord = field(repr=False)
    workspace_measured: bool = True
    step: Step | None = field(default=None, repr=False, compare=False)
    unchunked: Unplanned | None = None
    cap: Cap = field(default_factory=Cap)

    @cached_property
    def trace(self) -> Trace:
        """The referee's replay of the schedule."""
        return simulate(self.problem, self.schedule)

    @cached_property
    def baseline(self) -> Trace:
        """The referee's replay of the graph with everything kept."""
        return self.footprint.unplanned_trace

    @cached_property
    def footprint(self) -> Footprint:
        """What the step needs, to be held against a budget."""
        return Footprint(self.problem.graph, self.resident)

    @property
    def unplanned(self) -> Unplanned:
        """The step without a plan, its loss in one piece."""
        return self.unchunked or self.footprint.unplanned

    @property
    def chunks(self) -> int:
        """Into how many chunks of tokens the head and the loss are split; 0: not at all."""
        return self.record.chunks

    @property
    def outputs(self) -> str:
        """What the planned step hands over: "all" outputs of the model, or its "loss"."""
        return self.record.outputs

    @property
    def accumulation_steps(self) -> int:
        """Micro-batches whose gradients are added up before the optimizer steps."""
        return self.record.accumulation_steps

    @property
    def peak_bytes(self) -> int:
        """Predicted peak of the whole step; counts what the budget counts."""
        return self.resident.whole_step_peak(self.trace.peak)

    @property
    def baseline_peak_bytes(self) -> int:
        """Predicted peak of the un-planned step."""
        return self.unplanned.peak_bytes

    def apply(
        self,
        model: nn.Module,
        *,
        inputs: Any = None,
        loss: Callable[[Any], torch.Tensor] | None = None,
        on_mismatch: str = "error",
        execution: str = "ops",
    ) -> nn.Module:
        """A module with the model's parameters that trains by this plan.

        Parameters
        ----------
        model : nn.Module
            The model the plan was made for, or one of the same shape. One in
            DistributedDataParallel stays in it, planned, and the wrapper is what is returned.
        inputs, loss : optional
            Example inputs, where the plan's own cannot be rebuilt; the plan's loss, from a file.
        on_mismatch : "error", "eager" or "replan"
            What another call does: raise, run the model, or be planned within this budget.
        execution : "ops" or "inductor"
            Op by op; or what inductor fuses, planned anew within this plan's budget.

        Raises
        ------
        InvalidArgument
            If the plan comes from a file and was made with a `loss` that is not passed.
        PlanMismatch
            If the model computes another graph; names the first difference.
        InfeasibleBudget
            If the plan was made without measured workspace and does not fit with it.
        """
        from pebble.plan.applying import follow_fused, follow_plan
        from pebble.tracing.wrapped import put_inside

        if execution != "ops":
            return follow_fused(model, self.record, self.budget_bytes, self.seed, execution)
        plan = self.on(self.step_of(model, inputs, loss))
        assert plan.step is not None
        module = follow_plan(
            model,
            plan.step,
            plan.schedule,
            plan.record,
            peak_bytes=plan.peak_bytes,
            budget_bytes=plan.budget_bytes,
            on_mismatch=on_mismatch,
            search=lambda: SearchOptions(seed=plan.seed, budget_kind=plan.cap.kind),
        )
        return put_inside(model, plan.judged(module))

    def validate(
        self,
        model: nn.Module | None = None,
        inputs: Any = None,
        *,
        loss: Callable[[Any], torch.Tensor] | None = None,
        seed: int = 0,
        repeats: int = 3,
        display: bool | None = None,
    ) -> Validation:
        """Run the step un-planned and planned, and compare.

        The optimizer's state and step are measured too if the plan names one of torch's own.

        Parameters
        ----------
        model : nn.Module, optional
            Default: the model the plan was made for in this process.
        inputs : optional
            Default: the inputs the plan was made with.
        loss : callable, optional
            As in `apply`.
        seed : int
            For random ops.
        repeats : int
            Timed runs of each.
        display : bool, optional
            Show progress; default: on a terminal and in a notebook.

        Returns
        -------
        Validation
            Gradients equal, peak predicted / measured / budget, step time, recompute cost.
        """
        from pebble.runtime.validation import RUNNABLE_OPTIMIZERS, ValidationOptions, validate

        step = self.step_of(model, inputs, loss)
        plan, optimizer = self.on(step), self.record.optimizer
        alone = step.with_waiting(0).resident  # one call is run
        runs = optimizer in RUNNABLE_OPTIMIZERS
        plan = replace(plan, resident=alone if runs else alone.without_optimizer())
        options = ValidationOptions(
            predicted_peak_bytes=plan.peak_bytes,
            budget_bytes=plan.budget_bytes,
            unplanned_cost=plan.unplanned.cost,
            optimizer=optimizer if runs else None,
            seed=seed,
            repeats=repeats,
        )
        with progress_line(display, "validate") as line:
            found = validate(
                step.model, step.captured, plan.problem, plan.schedule, step.inputs, options
            )
            line.result("as predicted" if found.ok else "not as predicted: print the report")
        return found

    def step_of(
        self,
        model: nn.Module | None,
        inputs: Any,
        loss: Callable[[Any], torch.Tensor] | None = None,
    ) -> Step:
        """The traced step of a model, checked against this plan; traced anew where needed."""
        from pebble.plan.matching import Given, matching_step

        given = Given(model, inputs, loss)
        return matching_step(self.problem.graph, self.record, self.step, given)

    def on(self, step: Step) -> Plan:
        """The plan with the values and workspaces of a step measured on this machine.

        Raises
        ------
        InfeasibleBudget
            If it does not fit its budget with them.
        """
        if step is self.step:
            return self
        step = step.with_waiting(step.waiting_bytes(self.schedule))
        plan = replace(
            self,
            problem=replace(self.problem, graph=self.problem.graph.with_bytes_of(step.graph)),
            resident=step.resident,
            workspace_measured=step.workspace_measured,
            step=step,
            cap=self.cap.here(step.captured.device),
            checked=self.checked.of_another_step,
        )
        if plan.workspace_measured and plan.held_bytes > plan.budget_bytes:
            raise fits_no_longer(plan.held_bytes, plan.budget_bytes)
        return plan

    @property
    def figures(self) -> PlanFigures:
        """What the report and the pictures show."""
        base = max(self.unplanned.cost, 1)
        return PlanFigures(
            model=self.record.model,
            solver=self.solver,
            status=str(self.status),
            scope=str(self.scope),
            budget_bytes=self.budget_bytes,
            peak_bytes=self.peak_bytes,
            saved_bytes=saved_bytes(self.problem.graph, self.trace),
            resident_bytes=self.resident.total,
            floor_bytes=self.footprint.peak_lower_bound,
            unplanned=self.unplanned,
            overhead=self.overhead,
            bound_overhead=self.lower_bound / base - 1,
            gap=self.gap,
            recomputed=sum(self.recomputed.values()),
            memory=self.memory,
            runtime=self.runtime,
            seed=self.seed,
            workspace_measured=self.workspace_measured,
            outputs=self.outputs,
            chunks=self.chunks,
            card_text=self.card_text,
            kernels_text=kernels_text(self.record, self.problem.graph, self.resident),
            live=self.trace.live,
            unplanned_live=self.baseline.live,
        )

    @property
    def view(self) -> PlanView:
        """What pictures, pages and files for other viewers are made from."""
        return PlanView(self.figures, self.footprint, self.schedule, self.trace, self.baseline)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            **file_header(),
            "fingerprint": self.problem.graph.fingerprint,
            "budget_bytes": self.budget_bytes,
            "graph_budget": self.problem.budget,
            "resident": dict(self.resident.kinds),
            "optimizer_step_peak": self.resident.optimizer_step_peak,
            "status": str(self.status),
            "lower_bound": self.lower_bound,
            "bound_scope": asdict(self.scope),
            "predicted_peak_bytes": self.peak_bytes,
            "predicted_cost": self.cost,
            "solver": self.solver,
            "seed": self.seed,
            "runtime": self.runtime,
            "options": dict(self.options),
            "unchunked": None if self.unchunked is None else asdict(self.unchunked),
            "cap": self.cap.to_json(),
            "origin": self.record.to_json(),
            "workspace_measured": self.workspace_measured,
            "schedule": list(self.schedule.order),
            "graph": self.problem.graph.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """A plan from the data that `to_json` gives.

        What follows from the graph and the schedule is taken from the referee's replay; the bound
        is the one that needs no search, and the status is optimal only where that shows it.

        Raises
        ------
        PlanFormatError, GraphError, InvalidSchedule
            If the data are damaged, or claim what the replay does not show.
        """
        claims = Claims.of(data)
        graph = Graph.from_json(data["graph"])
        resident = Resident(dict(data["resident"]), int(data["optimizer_step_peak"]))
        problem = Footprint(graph, resident).problem(claims.budget_bytes)
        schedule = Schedule(tuple(data["schedule"]))
        check_length(graph, schedule)
        record = StepRecord.from_json(data["origin"])
        trace = simulate(problem, schedule)
        plan = cls(
            budget_bytes=claims.budget_bytes,
            problem=problem,
            schedule=schedule,
            resident=resident,
            status=Status.OPTIMAL if trace.cost <= graph.total_cost else Status.FEASIBLE,
            lower_bound=graph.total_cost,
            scope=FREE_ORDER,
            solver=data["solver"],
            seed=int(data["seed"]),
            runtime=float(data["runtime"]),
            options=dict(data["options"]),
            record=record,
            workspace_measured=data["workspace_measured"],
            unchunked=claims.unchunked if record.chunks else None,
            cap=claims.cap,
        )
        claims.check(graph.fingerprint, problem.budget, plan.peak_bytes, trace.cost)
        claims.check_held(plan.held_bytes)
        check_recorded_inputs(record.inputs, plan.budget_bytes, resident.kinds)
        return plan

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON: the file is there whole, or not at all.

        Raises
        ------
        InvalidArgument
            If the folder is missing or nothing can be written there.
        """
        write_plan_file(path, self.to_json())
