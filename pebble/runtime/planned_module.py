"""The module that follows a schedule: a drop-in for the model it was planned for."""

from __future__ import annotations

import copy
import functools
import types
import weakref
from typing import Any

import torch
from torch import nn

from pebble.errors import InvalidArgument
from pebble.runtime.effect import Effect
from pebble.runtime.follower import FORWARD, OWN, Follower, run_eagerly, unplanned
from pebble.runtime.guards import Guards
from pebble.runtime.planned_step import PlannedStep
from pebble.runtime.promise import Promise
from pebble.schedule import Schedule
from pebble.tracing.captured import Captured
from pebble.tracing.plannable import plain
from pebble.tracing.step_form import StepForm

MISMATCH = ("error", "eager")


def build(
    model: nn.Module,
    captured: Captured,
    schedule: Schedule,
    *,
    on_mismatch: str = "error",
    promise: Promise | None = None,
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
        model as if there were no plan, which `pebble.status` counts and a warning tells.
    promise : Promise, optional
        What was predicted of the step, and with how many threads it was measured. Default: the
        threads of now, no prediction.

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
        guards,
        schedule,
        captured.graph.fingerprint,
        StepForm.of(captured),
        on_mismatch,
        Effect(promise or Promise.of(captured)),
    )
    follower.step = PlannedStep(captured, schedule)
    return _wrap(model, follower)


class PlannedModule(nn.Module):
    """A model that trains by a plan. Made by `build`; also an instance of the model's own class.

    A call in training mode with gradients on follows the plan; under `torch.no_grad`, in
    inference mode, or after `eval()`, the model's own forward runs.
    """

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if isinstance(found, nn.Module):
            follower: Follower | None = self.__dict__.get(OWN)
            if follower is not None and self.training and torch.is_grad_enabled():
                follower.looked_up(self, name, found)
        return found

    def extra_repr(self) -> str:
        """Also how its calls went; see `pebble.status`."""
        follower: Follower | None = self.__dict__.get(OWN)
        told = "" if follower is None else f"plan: {follower.effect.status('').summary}"
        return ", ".join(filter(None, (super().extra_repr(), told)))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _wrap, (unplanned(self), self.__dict__.get(OWN))

    def __deepcopy__(self, memo: dict[int, Any]) -> PlannedModule:
        own = copy.deepcopy(self.__dict__.get(OWN), memo)
        return _wrap(copy.deepcopy(unplanned(self), memo), own)


plain.register(PlannedModule, unplanned)


def _wrap(model: nn.Module, follower: Follower | None) -> PlannedModule:
    planned: PlannedModule = object.__new__(_planned_class(type(model)))
    # The dictionaries of parameters, buffers and submodules are the model's own, not copies: what
    # is replaced, moved or cast through one of the two is so for the other.
    planned.__dict__.update(model.__dict__)
    own_forward = planned.__dict__.pop("forward", None)
    if own_forward is not None:
        planned.__dict__[FORWARD] = own_forward
    planned.__dict__[OWN] = follower
    if follower is not None:
        follower.guard_forward(planned)
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
        follower: Follower | None = self.__dict__.get(OWN)
        if follower is None:
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
