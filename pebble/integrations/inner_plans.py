"""Plans for the modules that a training step calls, where the step itself is no single graph."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pebble.integrations.loop_memory import outside_bytes
from pebble.integrations.trainer_losses import stand_in
from pebble.plan.budgeted import budgeted
from pebble.plan.replanning import Replanner
from pebble.runtime.follower import Following, follower_of
from pebble.runtime.plan_status import PlanStatus
from pebble.runtime.planned_module import plan_in_place, unplan

logger = logging.getLogger("pebble")


class InnerPlans:
    """The modules that a training step calls first are planned, each at its first call.

    Which those are is seen when they are called: the LightningModule's own forward, or parts of it.
    What the step makes of their outputs is counted as `trainer_losses.stand_in`.

    Parameters
    ----------
    root : nn.Module
    options : mapping
        Of `pebble.budgeted`.
    optimizers : sequence of str or Optimizer
    accumulation_steps : int
    reason : str
        Why the step is not planned as a whole.
    held_bytes : callable
        Of what the loop holds beside.
    """

    def __init__(
        self,
        root: nn.Module,
        options: Mapping[str, Any],
        *,
        optimizers: Sequence[Any],
        accumulation_steps: int,
        reason: str,
        held_bytes: Callable[[], int],
    ) -> None:
        self.root = root
        self.options = dict(options)
        self.optimizers = [o for o in optimizers if o is not None]
        self.accumulation_steps = accumulation_steps
        self.reason = reason
        self.held_bytes = held_bytes
        self.waiting: list[nn.Module] = []
        self.planned: list[nn.Module] = []
        self.before: dict[int, Any] = {}

    def enter(self) -> None:
        """Wait for the calls."""
        logger.info(
            "The training step of %s is not planned as a whole (%s): what it calls is.",
            type(self.root).__name__,
            self.reason,
        )
        for module in (self.root, *_parts(self.root)):
            self.before[id(module)] = module.__dict__.get("forward")
            module.__dict__["forward"] = _FirstCall(self, module)
            self.waiting.append(module)

    def leave(self) -> None:
        """Make every module what it was."""
        for module in list(self.waiting):
            self._forget(module)
        for module in self.planned:
            unplan(module)
        self.planned = []

    def statuses(self) -> list[PlanStatus]:
        """How the calls of each of them went so far."""
        return [follower_of(m).status(type(m).__name__) for m in self.planned]

    def plan(self, module: nn.Module) -> None:
        """A module is called for the first time, in training: plan it, and nothing inside of it."""
        for other in list(self.waiting):
            inside = any(other is part for part in module.modules())
            if inside or any(module is part for part in other.modules()):
                self._forget(other)
        optimizer = next((o for o in self.optimizers if _steps_over(o, module)), None)
        planned = budgeted(
            module,
            **{"level": "graph"} | self.options,
            optimizer=optimizer,
            accumulation_steps=self.accumulation_steps,
            loss=stand_in,
        )
        following: Following = follower_of(planned)
        planner = getattr(following, "planner", None)
        assert isinstance(planner, Replanner)
        planner.held_bytes = lambda: self._beside(module)
        plan_in_place(module, following)
        following.scope = f"planned inside the training step, which is not: {self.reason}"
        self.planned.append(module)

    def _beside(self, module: nn.Module) -> int:
        """Bytes of all that is there while a module's plan runs, but is not in it."""
        device = next((p.device for p in self.root.parameters()), torch.device("cpu"))
        outside = outside_bytes([self.root], module, self.optimizers, device)
        others = [follower_of(m) for m in self.planned if m is not module]
        held = sum(max((p.peak_bytes or 0 for p in o.promises), default=0) for o in others)
        return outside + held + self.held_bytes()

    def _forget(self, module: nn.Module) -> None:
        self.waiting.remove(module)
        module.__dict__.pop("forward", None)
        before = self.before.pop(id(module))
        if before is not None:
            module.__dict__["forward"] = before


class _FirstCall:
    """The forward of a module until it is called in training."""

    def __init__(self, plans: InnerPlans, module: nn.Module) -> None:
        self.plans, self.module = plans, module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        plans, module = self.plans, self.module
        if torch.is_grad_enabled() and module.training:
            plans.plan(module)
            return module.forward(*args, **kwargs)
        before = plans.before[id(module)]
        own = type(module).forward.__get__(module) if before is None else before
        return own(*args, **kwargs)


def _parts(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that a training step may call, in the module itself and in its lists."""
    for child in module.children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            yield from _parts(child)
        elif any(p.requires_grad for p in child.parameters()):
            yield child


def _steps_over(optimizer: Any, module: nn.Module) -> bool:
    if isinstance(optimizer, str):
        return True
    own = {id(p) for p in module.parameters()}
    return any(id(p) in own for group in optimizer.param_groups for p in group["params"])


def together(found: Sequence[PlanStatus]) -> PlanStatus:
    """How the calls of several planned modules went, as those of one."""
    first, *others = [s for s in found if s.planned_calls or s.unplanned_calls] or found[:1]
    for other in others:
        peaks = [p for p in (first.predicted_peak_bytes, other.predicted_peak_bytes) if p]
        first = replace(
            first,
            model=f"{first.model}, {other.model}",
            planned_calls=first.planned_calls + other.planned_calls,
            unplanned_calls=first.unplanned_calls + other.unplanned_calls,
            reasons={**first.reasons, **other.reasons},
            evaluation_calls=first.evaluation_calls + other.evaluation_calls,
            predicted_peak_bytes=max(peaks, default=None),
            members=first.members + other.members,
            plans_made=first.plans_made + other.plans_made,
            planning_seconds=first.planning_seconds + other.planning_seconds,
            scope=other.scope or first.scope,
        )
    return first
