"""The plan of a model that has no graph: which calls of its blocks keep their inputs only."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pebble.block_calls import BlockCall, CallWeight, told_calls
from pebble.budget import Resident
from pebble.errors import PlanFormatError
from pebble.formatting import Printed
from pebble.plan.module_report import ModuleFigures, module_html, module_text
from pebble.plan.plan_file import file_header, write_plan_file
from pebble.record import StepRecord
from pebble.schema import check_data
from pebble.solver import Status

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pebble.plan.module_explanation import ModuleExplanation
    from pebble.plan.module_step import ModuleStep
    from pebble.runtime.block_follower import BlockPlan
    from pebble.runtime.module_validation import ModuleValidation
    from pebble.runtime.promise import Promise


@dataclass(frozen=True, repr=False)
class ModulePlan(Printed):
    """A training step that fits its budget, planned module by module.

    For models whose forward is no single graph. Their own forward runs; the chosen calls of their
    blocks keep their inputs only and run again in the backward. Bytes are measured ones, of steps
    on the inputs that were planned with.

    Attributes
    ----------
    budget_bytes, peak_bytes, baseline_peak_bytes : int
        Of the whole step: allowed, with the plan, and without one.
    error_share : float
        How far runs of the planned step on other random numbers were apart, and from the model,
        as a fraction of the peak.
    resident : Resident
    calls : tuple of CallWeight
        The calls of blocks in a step.
    chosen : tuple of BlockCall
        Those that keep their inputs only.
    layered : bool
        Whether recurrent networks run layer by layer.
    left_out : mapping of str to str
        Blocks that are never run again, and why.
    step_ns : int
        Time of the un-planned step.
    lower_bound : int
        On the nanoseconds of what runs again, for every choice of these calls.
    reason : str
        Why there is no graph.
    status : Status
    runtime : float
        Seconds of planning.
    seed : int
    record : StepRecord
    fingerprint : str
        Of the model's parameters: names, shapes, dtypes.
    shapes : tuple of tuple of int
        Of the input tensors: the largest that the budget is known to hold for.
    """

    budget_bytes: int
    peak_bytes: int
    baseline_peak_bytes: int
    error_share: float
    resident: Resident
    calls: tuple[CallWeight, ...] = field(repr=False)
    chosen: tuple[BlockCall, ...]
    layered: bool
    left_out: Mapping[str, str]
    step_ns: int
    lower_bound: int
    reason: str
    status: Status
    runtime: float
    seed: int
    record: StepRecord = field(repr=False)
    fingerprint: str
    shapes: tuple[tuple[int, ...], ...]
    step: ModuleStep | None = field(default=None, repr=False, compare=False)

    level = "module"

    @property
    def cost(self) -> int:
        """Nanoseconds of the step with what runs again."""
        again = set(self.chosen)
        return self.step_ns + sum(weight.cost for weight in self.calls if weight.at in again)

    @property
    def overhead(self) -> float:
        """Extra compute as a fraction of the un-planned step's time."""
        return self.cost / max(self.step_ns, 1) - 1

    @property
    def gap(self) -> float:
        """Cost over the lower bound, less one."""
        return max(self.cost / max(self.step_ns + self.lower_bound, 1) - 1, 0.0)

    @property
    def memory(self) -> dict[str, int]:
        """Bytes by kind at the moment of the peak."""
        rest = self.peak_bytes - self.resident.total
        return {**self.resident.kinds, "activations, gradients, outputs and workspace": rest}

    @property
    def recomputed(self) -> dict[str, int]:
        """Extra calls by block."""
        found: dict[str, int] = {}
        for at in self.chosen:
            found[at.block] = found.get(at.block, 0) + 1
        return found

    @property
    def block_plan(self) -> BlockPlan:
        """What the module that follows the plan needs to know of it."""
        from pebble.runtime.block_follower import BlockPlan

        counts: dict[str, int] = {}
        for weight in self.calls:
            at = weight.at
            counts[at.block] = max(counts.get(at.block, 0), at.call + 1)
        return BlockPlan(
            chosen=self.chosen,
            calls=counts,
            layered=self.layered,
            shapes=self.shapes,
            input_bytes=self.resident.kinds.get("inputs", 0),
            step_bytes=self.peak_bytes - self.resident.total,
            fingerprint=self.fingerprint,
        )

    @property
    def promise(self) -> Promise:
        """What it was measured with, and what it needs."""
        from pebble.runtime import Promise

        return Promise(
            self.record.device,
            self.record.threads,
            self.record.accumulation_steps > 1,
            self.peak_bytes,
            self.budget_bytes,
        )

    def explain(
        self, *, time_limit: float = 30.0, display: bool | None = None
    ) -> ModuleExplanation:
        """What each block keeps and what it takes to run again; see `pebble.explain`."""
        from pebble.finetune.explanations import explain

        return explain(self, time_limit=time_limit, display=display)  # type: ignore[return-value]

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
        inputs, loss
            Not needed; here so that plans of both levels are applied alike.
        on_mismatch : "error" or "eager"
            What a call with larger inputs than planned does: raise `PlanMismatch`, or run by the
            same choice all the same, with a warning that its memory is not that of the plan.

        Raises
        ------
        PlanMismatch
            If the model has other parameters or lacks a block.
        """
        from pebble.runtime.block_follower import follow
        from pebble.tracing.wrapped import inside, put_inside

        plan, promise = self.block_plan, self.promise
        return put_inside(model, follow(inside(model), plan, promise, on_mismatch))

    def validate(
        self,
        model: nn.Module | None = None,
        inputs: Any = None,
        *,
        loss: Callable[[Any], torch.Tensor] | None = None,
        seed: int = 0,
        repeats: int = 3,
    ) -> ModuleValidation:
        """Run the step un-planned and planned, and compare.

        Parameters
        ----------
        model, inputs, loss
            As in `pebble.Plan.validate`.
        seed : int
            For random ops.
        repeats : int
            Timed runs of each.
        """
        from pebble.plan.matching import Given
        from pebble.plan.module_step import matching_module_step
        from pebble.runtime.module_validation import ModulePromise, validate_modules

        given = Given(model, inputs, loss)
        step = matching_module_step(self.record, self.fingerprint, self.step, given)
        promise = ModulePromise(
            peak_bytes=self.peak_bytes,
            budget_bytes=self.budget_bytes,
            resident_bytes=self.resident.total,
            optimizer_step_peak=self.resident.optimizer_step_peak,
            overhead=self.overhead,
            blocks=tuple(dict.fromkeys(weight.at.block for weight in self.calls)),
            chosen=self.chosen,
            layered=self.layered,
        )
        return validate_modules(step.bench(seed), promise, repeats)

    # -- for people and files ----------------------------------------------------------------

    @property
    def figures(self) -> ModuleFigures:
        """What the report shows."""
        return ModuleFigures(
            model=self.record.model,
            status=str(self.status),
            told=told_calls(self.chosen, [weight.at for weight in self.calls]),
            reason=self.reason,
            budget_bytes=self.budget_bytes,
            peak_bytes=self.peak_bytes,
            baseline_peak_bytes=self.baseline_peak_bytes,
            error_share=self.error_share,
            overhead=self.overhead,
            gap=self.gap,
            chosen=len(self.chosen),
            calls=len(self.calls),
            memory=self.memory,
            left_out=self.left_out,
            runtime=self.runtime,
            seed=self.seed,
        )

    def __str__(self) -> str:
        return module_text(self.figures)

    def _repr_html_(self) -> str:
        return module_html(self.figures)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            **file_header(),
            "level": self.level,
            "fingerprint": self.fingerprint,
            "budget_bytes": self.budget_bytes,
            "predicted_peak_bytes": self.peak_bytes,
            "baseline_peak_bytes": self.baseline_peak_bytes,
            "error_share": self.error_share,
            "resident": dict(self.resident.kinds),
            "optimizer_step_peak": self.resident.optimizer_step_peak,
            "calls": [asdict(weight) for weight in self.calls],
            "chosen": [asdict(at) for at in self.chosen],
            "layered": self.layered,
            "left_out": dict(self.left_out),
            "step_ns": self.step_ns,
            "reason": self.reason,
            "seed": self.seed,
            "runtime": self.runtime,
            "shapes": [list(shape) for shape in self.shapes],
            "origin": self.record.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModulePlan:
        """A plan from the data that `to_json` gives.

        What only a search can prove, a file cannot: its bound is that nothing runs again.

        Raises
        ------
        PlanFormatError
            If the data are damaged, or contradict themselves.
        """
        check_data(data, _form, what="Its form is wrong", error=PlanFormatError)
        calls = tuple(
            CallWeight(BlockCall(**weight["at"]), weight["saved_bytes"], weight["cost"])
            for weight in data["calls"]
        )
        chosen = tuple(BlockCall(**at) for at in data["chosen"])
        _check(data, calls, chosen)
        return cls(
            budget_bytes=data["budget_bytes"],
            peak_bytes=data["predicted_peak_bytes"],
            baseline_peak_bytes=data["baseline_peak_bytes"],
            error_share=float(data["error_share"]),
            resident=Resident(dict(data["resident"]), data["optimizer_step_peak"]),
            calls=calls,
            chosen=chosen,
            layered=data["layered"],
            left_out=dict(data["left_out"]),
            step_ns=data["step_ns"],
            lower_bound=0,
            reason=data["reason"],
            status=Status.FEASIBLE if chosen else Status.OPTIMAL,
            runtime=float(data["runtime"]),
            seed=data["seed"],
            record=StepRecord.from_json(data["origin"]),
            fingerprint=data["fingerprint"],
            shapes=tuple(tuple(shape) for shape in data["shapes"]),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON: the file is there whole, or not at all.

        Raises
        ------
        InvalidArgument
            If the folder is missing or nothing can be written there.
        """
        write_plan_file(path, self.to_json())


def _check(
    data: Mapping[str, Any], calls: tuple[CallWeight, ...], chosen: tuple[BlockCall, ...]
) -> None:
    """Refuse data that contradict themselves."""
    peak, budget = data["predicted_peak_bytes"], data["budget_bytes"]
    if peak > budget:
        raise PlanFormatError(f"Its peak of {peak} bytes is above its budget of {budget}.")
    if max(sum(data["resident"].values()), data["optimizer_step_peak"]) > peak:
        raise PlanFormatError(f"Its peak of {peak} bytes is below what is always there.")
    unknown = set(chosen) - {weight.at for weight in calls}
    if unknown or len(set(chosen)) < len(chosen):
        raise PlanFormatError("It chooses calls that its step does not make, or one of them twice.")


def _form() -> Any:
    from pebble.plan.plan_schema import ModulePlanForm

    return ModulePlanForm
