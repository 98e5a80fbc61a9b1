"""What a planned module knows of its plan, and how it finds the model's own way around it.

These are functions, not methods of the planned module: it has no name that its model might use.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pebble.errors import PlanMismatch
from pebble.runtime.effect import Effect
from pebble.runtime.guards import Guards
from pebble.runtime.planned_step import PlannedStep
from pebble.runtime.tensor_spec import mismatch
from pebble.schedule import Schedule
from pebble.tracing.step_form import StepForm

# Where a planned module keeps its follower, and a forward that its model has as an attribute.
OWN = "_pebble_follower"
FORWARD = "_pebble_forward"


class Follower:
    """What a planned module knows of its plan. Copies share the step, but count their own calls.

    Pickled are plain data: after loading, the first planned call traces the model again (on that
    call's own inputs) and checks that it computes the graph that was planned.
    """

    def __init__(
        self,
        guards: Guards,
        schedule: Schedule,
        fingerprint: str,
        form: StepForm,
        on_mismatch: str,
        effect: Effect,
    ) -> None:
        self.guards = guards
        self.schedule = schedule
        self.fingerprint = fingerprint
        self.form = form
        self.on_mismatch = on_mismatch
        self.effect = effect
        self.step: PlannedStep | None = None
        self.forward: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"step": None, "forward": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Follower:
        # holds no tensor of the model: a copy of the module may share the rest
        twin = copy.copy(self)
        twin.__dict__.update(self.__dict__, effect=Effect(self.effect.promise))
        return twin

    def run(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Check, then run the planned step; or the model itself where no plan is meant for it."""
        effect, trains = self.effect, self.guards.model.training
        effect.entrances.close()
        if not torch.is_grad_enabled() or (trains and not module.training):
            effect.evaluations += 1
            return self._run_eagerly(module, args, kwargs)
        try:
            tensors = self._match(module, args, kwargs)
        except PlanMismatch as error:
            if self.on_mismatch == "error" and module.training is trains:
                raise
            effect.fell_back(module, error)
            return self._run_eagerly(module, args, kwargs)
        if self.step is None:
            self.step = self._trace(module, args, kwargs)
        effect.begins(module, self.step, tensors)
        return self.step(tensors)

    def guard_forward(self, module: nn.Module) -> None:
        """Follow the plan while the model's forward is what it is now."""
        self.forward = _own_forward(module)

    def looked_up(self, module: nn.Module, name: str, found: nn.Module) -> None:
        """A submodule was looked up on the planned module: perhaps to be called past the plan."""
        if not self.effect.inside and not torch.compiler.is_compiling():
            self.effect.entrances.watch(module, name, found)

    def _match(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> list[torch.Tensor]:
        if _own_forward(module) is not self.forward:
            what = f"The forward of {type(module).__name__} was replaced after planning."
            raise mismatch(what, "")
        return self.guards.match(module, args, kwargs)

    def _run_eagerly(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        self.effect.inside += 1
        try:
            return run_eagerly(module, args, kwargs)
        finally:
            self.effect.inside -= 1

    def _trace(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> PlannedStep:
        captured = self.form.capture(unplanned(module), args, dict(kwargs))
        if captured.graph.fingerprint != self.fingerprint:
            raise PlanMismatch(
                f"This {type(module).__name__} was saved with a plan, but computes another graph "
                "here (another version of torch or of the model's code?). Plan it again with "
                "pebble.optimize."
            )
        return PlannedStep(captured, self.schedule)


def follower_of(planned: nn.Module) -> Follower:
    """What a planned module knows of its plan."""
    follower: Follower = planned.__dict__[OWN]
    return follower


def run_eagerly(planned: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What the model's own forward returns."""
    own = planned.__dict__.get(FORWARD)
    if own is not None:
        return own(*args, **kwargs)
    return _base_of(planned).forward(planned, *args, **kwargs)


def _own_forward(planned: nn.Module) -> Any:
    """The model's forward as it is now, of its class or its own."""
    own = planned.__dict__.get(FORWARD)
    return _base_of(planned).forward if own is None else own


def unplanned(planned: nn.Module) -> nn.Module:
    """The model without its plan, sharing everything else."""
    state = {k: v for k, v in planned.__dict__.items() if k not in (OWN, FORWARD)}
    if FORWARD in planned.__dict__:
        state["forward"] = planned.__dict__[FORWARD]
    plain: nn.Module = object.__new__(_base_of(planned))
    plain.__dict__.update(state)
    return plain


def _base_of(planned: nn.Module) -> type[nn.Module]:
    """The model's own class: the made class and `PlannedModule` come before it."""
    return type(planned).__mro__[2]
