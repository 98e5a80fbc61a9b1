"""What a planned module knows of its plan, and how it finds the model's own way around it.

These are functions, not methods of the planned module: it has no name that its model might use.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pebble.errors import PlanMismatch
from pebble.runtime.guards import Guards
from pebble.runtime.planned_step import PlannedStep
from pebble.schedule import Schedule
from pebble.tracing.step_form import StepForm

# Where a planned module keeps its follower, and a forward that its model has as an attribute.
OWN = "_pebble_follower"
FORWARD = "_pebble_forward"


class Follower:
    """What a planned module knows of its plan: shared by its copies, re-made after a pickle.

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
    ) -> None:
        self.guards = guards
        self.schedule = schedule
        self.fingerprint = fingerprint
        self.form = form
        self.on_mismatch = on_mismatch
        self.step: PlannedStep | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"step": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Follower:
        return self  # holds no tensor of the model: a copy of the module may share it

    def applies(self, module: nn.Module) -> bool:
        """Whether a call is a training call at all."""
        return torch.is_grad_enabled() and module.training == self.guards.model.training

    def run(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Check, then run the planned step; or the model itself where that was asked for."""
        try:
            tensors = self.guards.match(module, args, kwargs)
        except PlanMismatch:
            if self.on_mismatch == "eager":
                return run_eagerly(module, args, kwargs)
            raise
        if self.step is None:
            self.step = self._trace(module, args, kwargs)
        return self.step(tensors)

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


def run_eagerly(planned: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What the model's own forward returns."""
    own = planned.__dict__.get(FORWARD)
    if own is not None:
        return own(*args, **kwargs)
    return _base_of(planned).forward(planned, *args, **kwargs)


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
