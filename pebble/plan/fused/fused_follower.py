"""A module whose training calls inductor runs by plans within one budget."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from pebble.errors import InvalidArgument, PlanMismatch
from pebble.options import SearchOptions, StepOptions
from pebble.plan.fused.fused_call import FusedAsked, FusedCall
from pebble.plan.fused.rounds import FusedReport
from pebble.plan.fused.shared_budget import SharedBudget
from pebble.runtime.follower import FORWARD, OWN, Following, PendingCheck, own_forward, unplanned
from pebble.runtime.plan_status import PlanStatus
from pebble.runtime.planned_module import wrap
from pebble.runtime.promise import Promise
from pebble.tracing.plannable import plannable

logger = logging.getLogger("pebble")

OPS, INDUCTOR = "ops", "inductor"
EXECUTIONS = (OPS, INDUCTOR)
"""How a planned step runs: op by op, or compiled with its kernels fused."""


def fuse(
    model: nn.Module, budget_bytes: int, step: StepOptions, search: SearchOptions
) -> nn.Module:
    """A module that trains within a budget, compiled by inductor.

    Parameters
    ----------
    model : nn.Module
    budget_bytes : int
        For the whole step.
    step : StepOptions
    search : SearchOptions

    Raises
    ------
    InvalidArgument
        If the options ask for what a compiled step does not do.
    """
    for name, usual in (
        ("loss", None), ("outputs", "all"), ("chunks", 0), ("accumulation_steps", 1),
        ("calls_in_flight", 1), ("differentiate", None),
    ):  # fmt: skip
        if getattr(step, name) != usual:
            raise InvalidArgument(
                f"execution='inductor' takes no {name}={getattr(step, name)!r}: it runs what "
                f"torch.compile traces. Leave {name} out, or use execution='ops'."
            )
    asked = FusedAsked(budget_bytes, step, replace(search, chunked_loss=False))
    return wrap(plannable(model), FusedFollower(asked))


class FusedFollower(Following):
    """What a planned module knows that runs compiled. Copies compile and plan for themselves.

    Parameters
    ----------
    asked : FusedAsked
    """

    def __init__(self, asked: FusedAsked) -> None:
        super().__init__()
        self.reports: list[FusedReport] = []
        self.asked = replace(asked, on_report=self.reports.append)
        self.shared = SharedBudget(asked.budget_bytes)
        self.plain: nn.Module | None = None
        self.compiled: Any = None
        self.device = "cpu"

    def take_check(self, check: PendingCheck) -> None:
        """Nothing is compared: a compiled step is no bitwise twin of eager's."""

    def __reduce__(self) -> tuple[Any, ...]:
        return FusedFollower, (replace(self.asked, on_report=None),)

    def __deepcopy__(self, memo: dict[int, Any]) -> FusedFollower:
        return FusedFollower(copy.copy(self.asked))

    @property
    def promises(self) -> tuple[Promise, ...]:
        """Of every plan: the peak is the measured one."""
        threads = torch.get_num_threads()
        return tuple(
            Promise(self.device, threads, False, report.measured_bytes, report.budget_bytes)
            for report in self.reports
        )

    def status(self, model: str) -> PlanStatus:
        """How the calls went; `scope` says how each plan was found."""
        told = "; ".join(str(report).replace("\n", " ") for report in self.reports)
        return replace(super().status(model), scope=told)

    def run(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The compiled forward; outside training the model itself."""
        self.effect.entrances.close()
        if not torch.is_grad_enabled() or not module.training:
            self.effect.evaluations += 1
            return self.run_eagerly(module, args, kwargs)
        compiled = self._compiled(module)
        before, plans = self.shared.calls, len(self.reports)
        self.effect.inside += 1
        try:
            made = compiled(*args, **kwargs)
        finally:
            self.effect.inside -= 1
        if self.shared.calls == before:
            what = "torch.compile ran it without the plan (its limit of recompilations?)."
            self.effect.fell_back(module, PlanMismatch(what, planned=what))
            return made
        self.effect.plans += len(self.reports) - plans
        self.effect.planned += 1
        return made

    def _compiled(self, module: nn.Module) -> Any:
        """The model's own forward, compiled; anew where it was replaced."""
        if self.compiled is None or own_forward(module) is not self.forward:
            self.guard_forward(module)
            self.plain = unplanned(module)
            self.compiled = torch.compile(self.plain, backend=self._back_end)
        assert self.plain is not None
        hidden = (OWN, FORWARD, "forward")
        self.plain.__dict__.update({k: v for k, v in module.__dict__.items() if k not in hidden})
        return self.compiled

    def _back_end(self, graph: fx.GraphModule, inputs: Sequence[Any]) -> FusedCall:
        return FusedCall(graph, self.asked, self.shared)
