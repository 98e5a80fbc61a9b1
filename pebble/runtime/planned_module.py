"""The module that follows a schedule: a drop-in for the model it was planned for."""

from __future__ import annotations

import copy
import functools
import types
import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pebble.errors import InvalidArgument, PlanMismatch
from pebble.runtime.guards import Guards
from pebble.runtime.planned_step import PlannedStep
from pebble.schedule import Schedule
from pebble.tracing.captured import Captured
from pebble.tracing.step_form import StepForm

MISMATCH = ("error", "eager")
_OWN = "_pebble_follower"
_FORWARD = "_pebble_forward"


def build(
    model: nn.Module, captured: Captured, schedule: Schedule, *, on_mismatch: str = "error"
) -> PlannedModule:
    """A module with the model's parameters that trains by a schedule.

    Parameters
    ----------
    model : nn.Module
        The model that was captured, or one that computes the same graph.
    captured : Captured
    schedule : Schedule
        Of `captured.graph`.
    on_mismatch : "error" or "eager"
        What a call that differs from what was captured does: raise `PlanMismatch`, or run the
        model as if there were no plan.

    Returns
    -------
    PlannedModule
        Also an instance of the model's class. It shares parameters, buffers, submodules and
        attributes with the model; both may be used.

    Raises
    ------
    InvalidArgument, InvalidSchedule, PlanMismatch
    """
    if on_mismatch not in MISMATCH:
        raise InvalidArgument(f"on_mismatch is {on_mismatch!r}; choose 'error' or 'eager'.")
    if isinstance(model, PlannedModule):
        model = unplanned(model)
    guards = Guards.of(model, captured)
    if on_mismatch == "error":
        guards.model.check_hooks(model)
    follower = Follower(
        guards, schedule, captured.graph.fingerprint, StepForm.of(captured), on_mismatch
    )
    follower.step = PlannedStep(captured, schedule)
    return _wrap(model, follower)


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

    def run(self, module: PlannedModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
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
        self, module: PlannedModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> PlannedStep:
        captured = self.form.capture(unplanned(module), args, dict(kwargs))
        if captured.graph.fingerprint != self.fingerprint:
            raise PlanMismatch(
                f"This {type(module).__name__} was saved with a plan, but computes another graph "
                "here (another version of torch or of the model's code?). Plan it again with "
                "pebble.optimize."
            )
        return PlannedStep(captured, self.schedule)


class PlannedModule(nn.Module):
    """A model that trains by a plan. Made by `build`; also an instance of the model's own class.

    A call in training mode with gradients on follows the plan; under `torch.no_grad`, in
    inference mode, or after `eval()`, the model's own forward runs.
    """

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _wrap, (unplanned(self), self.__dict__.get(_OWN))

    def __deepcopy__(self, memo: dict[int, Any]) -> PlannedModule:
        return _wrap(copy.deepcopy(unplanned(self), memo), self.__dict__.get(_OWN))


# Functions, not methods: a planned module has no name that its model might use for itself.


def run_eagerly(planned: PlannedModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What the model's own forward returns."""
    own = planned.__dict__.get(_FORWARD)
    if own is not None:
        return own(*args, **kwargs)
    return super(PlannedModule, planned).forward(*args, **kwargs)


def unplanned(planned: PlannedModule) -> nn.Module:
    """The model without its plan, sharing everything else."""
    state = {k: v for k, v in planned.__dict__.items() if k not in (_OWN, _FORWARD)}
    if _FORWARD in planned.__dict__:
        state["forward"] = planned.__dict__[_FORWARD]
    base = type(planned).__mro__[2]
    plain: nn.Module = object.__new__(base)
    plain.__dict__.update(state)
    return plain


def _wrap(model: nn.Module, follower: Follower | None) -> PlannedModule:
    planned: PlannedModule = object.__new__(_planned_class(type(model)))
    # The dictionaries of parameters, buffers and submodules are the model's own, not copies: what
    # is replaced, moved or cast through one of the two is so for the other.
    planned.__dict__.update(model.__dict__)
    own_forward = planned.__dict__.pop("forward", None)
    if own_forward is not None:
        planned.__dict__[_FORWARD] = own_forward
    planned.__dict__[_OWN] = follower
    return planned


def _planned_class(base: type[nn.Module]) -> type[PlannedModule]:
    found = _classes.get(base)
    if found is None:
        found = _classes[base] = _make_class(base)
    return found


_classes: weakref.WeakKeyDictionary[type[nn.Module], type[PlannedModule]]
_classes = weakref.WeakKeyDictionary()


def _make_class(base: type[nn.Module]) -> type[PlannedModule]:
    """A class that is both a PlannedModule and the model's class, under the model's name."""

    @functools.wraps(base.forward)
    def forward(self: PlannedModule, *args: Any, **kwargs: Any) -> Any:
        follower: Follower | None = self.__dict__.get(_OWN)
        if follower is None or not follower.applies(self):
            return run_eagerly(self, args, kwargs)
        return follower.run(self, args, kwargs)

    def fill(space: dict[str, Any]) -> None:
        space |= {
            # dynamo must not look inside: a planned step allocates for itself
            "forward": torch.compiler.disable(forward),  # type: ignore[no-untyped-call]
            "__doc__": base.__doc__,
            "__module__": base.__module__,
            "__qualname__": base.__qualname__,
        }

    return types.new_class(base.__name__, (PlannedModule, base), exec_body=fill)
