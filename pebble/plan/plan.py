"""The plan: what a user keeps. A report, a file, and the way back to the model."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pebble._version import __version__
from pebble.errors import (
    InfeasibleBudget,
    InvalidArgument,
    PebbleError,
    PlanFormatError,
    PlanMismatch,
)
from pebble.graph import Graph, Phase
from pebble.plan.differences import first_difference
from pebble.plan.report import plan_html, plan_text
from pebble.problem import Problem
from pebble.referee import Trace, simulate
from pebble.schedule import Schedule, Scope
from pebble.solver import Status

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pebble.measure.step import Step
    from pebble.runtime.validation_report import Validation

FILE_FORMAT = "pebble-plan"
SCHEMA_VERSION = "1.0"


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

    def whole_step_peak(self, graph_peak: int) -> int:
        """Peak of the step whose forward and backward need `graph_peak` for the graph's values."""
        return max(self.total + graph_peak, self.optimizer_step_peak)


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
class Plan:
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
    origin : mapping
        Model name, device, threads, torch version, costs, optimizer, loss, inputs: what the plan
        was made for.
    workspace_measured : bool
        False if it was made on fake tensors; then `apply` measures and checks the budget again.
    unchunked : Unplanned or None
        Where the head and the loss run in chunks: the step that they are compared with.
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
    origin: Mapping[str, Any] = field(repr=False)
    workspace_measured: bool = True
    step: Step | None = field(default=None, repr=False, compare=False)
    unchunked: Unplanned | None = None

    # -- numbers ---------------------------------------------------------------------------

    @cached_property
    def trace(self) -> Trace:
        """The referee's replay of the schedule."""
        return simulate(self.problem, self.schedule)

    @cached_property
    def baseline(self) -> Trace:
        """The referee's replay of the graph with everything kept."""
        return simulate(self.problem, Schedule.keep_all(self.problem.graph))

    @cached_property
    def unplanned(self) -> Unplanned:
        """The step without a plan, its loss in one piece."""
        if self.unchunked is not None:
            return self.unchunked
        sizes = self.problem.graph.arrays.size
        return Unplanned(
            peak_bytes=self.resident.whole_step_peak(self.baseline.peak),
            cost=self.baseline.cost,
            saved_bytes=int(sizes[list(self.baseline.saved)].sum()),
            floor_bytes=self.resident.whole_step_peak(self.problem.working_set_bound),
        )

    @property
    def chunks(self) -> int:
        """Into how many chunks of tokens the head and the loss are split; 0: not at all."""
        return int(self.origin.get("chunks") or 0)

    @property
    def outputs(self) -> str:
        """What the planned step hands over: "all" outputs of the model, or its "loss"."""
        return str(self.origin.get("outputs") or "all")

    @property
    def accumulation_steps(self) -> int:
        """Micro-batches whose gradients are added up before the optimizer steps."""
        return int(self.origin.get("accumulation_steps") or 1)

    @property
    def peak_bytes(self) -> int:
        """Predicted peak of the whole step; counts what the budget counts."""
        return self.resident.whole_step_peak(self.trace.peak)

    @property
    def baseline_peak_bytes(self) -> int:
        """Predicted peak of the un-planned step."""
        return self.unplanned.peak_bytes

    @property
    def cost(self) -> int:
        """Compute of one step, in nanoseconds of the cost model."""
        return self.trace.cost

    @property
    def overhead(self) -> float:
        """Extra compute as a fraction of the un-planned step's compute."""
        return (self.cost - self.unplanned.cost) / max(self.unplanned.cost, 1)

    @property
    def gap(self) -> float:
        """Cost over the lower bound, less one."""
        return max(self.cost / max(self.lower_bound, 1) - 1, 0.0)

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by kind at the moment of the predicted peak."""
        if self.resident.optimizer_step_peak > self.resident.total + self.trace.peak:
            rest = self.resident.optimizer_step_peak - self.resident.total
            return {**self.resident.kinds, "gradients and optimizer step": rest}
        return {**self.resident.kinds, **live_kinds(self.problem.graph, self.trace)}

    @property
    def saved(self) -> tuple[str, ...]:
        """Names of the values in memory when the backward begins."""
        return tuple(self.problem.graph.values[v].name for v in self.trace.saved)

    @property
    def recomputed(self) -> dict[str, int]:
        """Extra executions by op name."""
        graph = self.problem.graph
        counts = self.schedule.executions(len(graph.ops))
        return {graph.ops[i].name: int(n) - 1 for i, n in enumerate(counts) if n > 1}

    # -- back to the model -------------------------------------------------------------------

    def apply(
        self,
        model: nn.Module,
        *,
        inputs: Any = None,
        loss: Callable[[Any], torch.Tensor] | None = None,
        on_mismatch: str = "error",
    ) -> nn.Module:
        """A module with the model's parameters that trains by this plan.

        Parameters
        ----------
        model : nn.Module
            The model the plan was made for, or one of the same shape.
        inputs : optional
            Example inputs; needed only if the plan's own cannot be rebuilt.
        loss : callable, optional
            The `loss` that the plan was made with; needed only if it was made with one and comes
            from a file, which cannot hold a function.
        on_mismatch : "error" or "eager"
            What a call with other inputs than planned does.

        Raises
        ------
        InvalidArgument
            If the plan comes from a file and was made with a `loss` that is not passed.
        PlanMismatch
            If the model computes another graph; names the first difference.
        InfeasibleBudget
            If the plan was made without measured workspace and does not fit with it.
        """
        from pebble.runtime import build

        step = self.step_of(model, inputs, loss)
        plan = self.on(step)
        return build(model, step.captured, plan.schedule, on_mismatch=on_mismatch)

    def validate(
        self,
        model: nn.Module | None = None,
        inputs: Any = None,
        *,
        loss: Callable[[Any], torch.Tensor] | None = None,
        seed: int = 0,
        repeats: int = 3,
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

        Returns
        -------
        Validation
            Gradients equal, peak predicted / measured / budget, step time, recompute cost.
        """
        from pebble.runtime.validation import RUNNABLE_OPTIMIZERS, ValidationOptions, validate

        if model is None and self.step is None:
            raise PlanMismatch(
                "This plan was loaded from a file; pass the model to validate it on."
            )
        step = self.step_of(model, inputs, loss)
        plan, optimizer = self.on(step), self.origin["optimizer"]
        if optimizer not in RUNNABLE_OPTIMIZERS:
            plan = replace(plan, resident=step.resident.without_optimizer())
        return validate(
            step.model,
            step.captured,
            plan.problem,
            plan.schedule,
            step.inputs.args,
            step.inputs.kwargs,
            options=ValidationOptions(
                predicted_peak_bytes=plan.peak_bytes,
                budget_bytes=plan.budget_bytes,
                unplanned_cost=plan.unplanned.cost,
                optimizer=optimizer if optimizer in RUNNABLE_OPTIMIZERS else None,
                seed=seed,
                repeats=repeats,
            ),
        )

    def step_of(
        self,
        model: nn.Module | None,
        inputs: Any,
        loss: Callable[[Any], torch.Tensor] | None = None,
    ) -> Step:
        """The traced step of a model, checked against this plan; traced anew where needed."""
        from pebble.measure.step import trace_step
        from pebble.tracing.recorded_inputs import inputs_from_json

        known = self.step
        loss = self._loss(loss)
        if (
            known is not None
            and (model is None or model is known.model)
            and not known.captured.fake
            and known.loss is loss
        ):
            return known if inputs is None else known.with_inputs(inputs)
        if model is None:
            assert known is not None
            model = known.model
        if inputs is None:
            inputs = inputs_from_json(self.origin["inputs"], model)
        step = trace_step(
            model,
            inputs,
            loss=loss,
            optimizer=self.origin["optimizer"],
            costs=list(self.problem.graph.arrays.cost),
            chunks=self.chunks,
            outputs=self.outputs,
            accumulation_steps=self.accumulation_steps,
        )
        difference = first_difference(self.problem.graph, step.graph)
        if difference is not None:
            raise PlanMismatch(
                f"This plan was made for {self.origin['model']}, not for this "
                f"{type(model).__name__}: {difference}. Make a new plan with pebble.optimize."
            )
        return step

    def _loss(
        self, given: Callable[[Any], torch.Tensor] | None
    ) -> Callable[[Any], torch.Tensor] | None:
        """The loss function of the step: the one given, or the one this plan was made with."""
        name = self.origin.get("loss", "default")
        if name == "default":
            if given is not None:
                raise InvalidArgument(
                    "This plan was made without loss=, so it differentiates the model's own "
                    "loss or first output; leave loss= out, or make a plan with it."
                )
            return None
        known = None if self.step is None else self.step.loss
        if given is None and known is None:
            again = f"loss={name}" if str(name).isidentifier() else "that function as loss="
            raise InvalidArgument(
                f"This plan was made with the loss function {name!r}, which a file cannot hold; "
                f"pass {again} again."
            )
        return known if given is None else given

    def on(self, step: Step) -> Plan:
        """This plan with the workspaces of a step measured on this machine.

        Raises
        ------
        InfeasibleBudget
            If it does not fit its budget with them.
        """
        if step is self.step:
            return self
        graph = self.problem.graph.with_measures(workspaces=list(step.graph.arrays.workspace))
        plan = replace(
            self,
            problem=replace(self.problem, graph=graph),
            resident=step.resident,
            workspace_measured=step.workspace_measured,
            step=step,
        )
        if plan.workspace_measured and plan.peak_bytes > plan.budget_bytes:
            raise InfeasibleBudget(
                f"With the temporaries of this machine's kernels the plan needs "
                f"{plan.peak_bytes / 1e9:.3f} GB, above its budget of "
                f"{plan.budget_bytes / 1e9:.3f} GB. Call pebble.optimize with the real model.",
                budget_bytes=plan.budget_bytes,
                least_bytes=None,
            )
        return plan

    # -- for people and files ----------------------------------------------------------------

    def __str__(self) -> str:
        return plan_text(self)

    def _repr_html_(self) -> str:
        return plan_html(self)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            "format": FILE_FORMAT,
            "schema_version": SCHEMA_VERSION,
            "pebble_version": __version__,
            "fingerprint": self.problem.graph.fingerprint,
            "budget_bytes": self.budget_bytes,
            "graph_budget": self.problem.budget,
            "resident": dict(self.resident.kinds),
            "optimizer_step_peak": self.resident.optimizer_step_peak,
            "status": str(self.status),
            "lower_bound": self.lower_bound,
            "bound_scope": {
                "fixed_order": self.scope.fixed_order,
                "max_executions": self.scope.max_executions,
            },
            "predicted_peak_bytes": self.peak_bytes,
            "predicted_cost": self.cost,
            "solver": self.solver,
            "seed": self.seed,
            "runtime": self.runtime,
            "options": dict(self.options),
            "unchunked": None if self.unchunked is None else asdict(self.unchunked),
            "origin": dict(self.origin),
            "workspace_measured": self.workspace_measured,
            "schedule": list(self.schedule.order),
            "graph": self.problem.graph.to_json(),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON, atomically."""
        target = Path(path)
        text = json.dumps(self.to_json(), indent=1, default=str)
        with tempfile.NamedTemporaryFile(
            "w", dir=target.parent or ".", suffix=".part", delete=False
        ) as part:
            part.write(text)
        os.replace(part.name, target)


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan that `Plan.save` wrote. Needs neither the solver nor torch.

    Raises
    ------
    PlanFormatError
        If the file is no plan, is damaged, or has a newer major version.
    """
    try:
        data = json.loads(Path(path).read_text())
    except OSError as error:
        raise PlanFormatError(f"The plan {str(path)!r} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise PlanFormatError(f"The plan {str(path)!r} is no JSON: {error}.") from None
    if not isinstance(data, dict) or data.get("format") != FILE_FORMAT:
        raise PlanFormatError(f'{str(path)!r} is no plan: it has no "format": "{FILE_FORMAT}".')
    version = str(data.get("schema_version"))
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise PlanFormatError(
            f"The plan {str(path)!r} has schema version {version}; this release "
            f"(pebble {__version__}) reads {SCHEMA_VERSION.split('.')[0]}.x. "
            "Read it with the release that wrote it, or make it again."
        )
    try:
        plan = _plan_from_json(data)
        plan.trace  # noqa: B018 - a schedule that breaks the rules must not load
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = error if isinstance(error, PebbleError) else f"{type(error).__name__} {error}"
        raise PlanFormatError(f"The plan {str(path)!r} is damaged: {reason}") from None
    if plan.problem.graph.fingerprint != data["fingerprint"]:
        raise PlanFormatError(
            f"The plan {str(path)!r} is damaged: its graph does not have its fingerprint."
        )
    return plan


def _plan_from_json(data: Mapping[str, Any]) -> Plan:
    graph = Graph.from_json(data["graph"])
    return Plan(
        budget_bytes=int(data["budget_bytes"]),
        problem=Problem(graph, int(data["graph_budget"])),
        schedule=Schedule(tuple(data["schedule"])),
        resident=Resident(dict(data["resident"]), int(data["optimizer_step_peak"])),
        status=Status(data["status"]),
        lower_bound=int(data["lower_bound"]),
        scope=Scope(**data["bound_scope"]),
        solver=str(data["solver"]),
        seed=int(data["seed"]),
        runtime=float(data["runtime"]),
        options=dict(data["options"]),
        origin=dict(data["origin"]),
        workspace_measured=bool(data["workspace_measured"]),
        unchunked=Unplanned(**data["unchunked"]) if data.get("unchunked") else None,
    )


def live_kinds(graph: Graph, trace: Trace) -> dict[str, int]:
    """Bytes by kind at the peak of a trace: gradients, outputs, activations, workspace."""
    if not len(trace.live):
        return {}
    kept, at = trace.kept, trace.peak_step
    kinds = {"activations": 0, "gradients": 0, "outputs": 0}
    made_by = graph.arrays.producer
    for v in kept.value[(kept.start <= at) & (kept.end >= at)].tolist():
        value = graph.values[v]
        if not value.pinned:
            kind = "activations"
        elif graph.ops[int(made_by[v])].phase is Phase.BACKWARD:
            kind = "gradients"
        else:
            kind = "outputs"
        kinds[kind] += value.size
    kinds["workspace"] = trace.peak - sum(kinds.values())
    return kinds
