"""The module that follows a schedule: a drop-in for the model it was planned for."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import types
import weakref
from typing import Any

import torch
from torch import nn

from pebble.errors import InvalidArgument
from pebble.runtime.follower import (
    FORWARD,
    MADE,
    OWN,
    Follower,
    Following,
    own_forward,
    run_eagerly,
    unplanned,
)
from pebble.runtime.promise import Promise
from pebble.schedule import Schedule
from pebble.tracing.captured import Captured
from pebble.tracing.plannable import plain

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
    promise = promise or Promise.of(captured)
    return wrap(model, Follower.of(model, captured, schedule, promise, on_mismatch))


class PlannedModule(nn.Module):
    """A model that trains by a plan. Made by `build`; also an instance of the model's own class.

    A call in training mode with gradients on follows the plan; under `torch.no_grad`, in
    inference mode, or after `eval()`, the model's own forward runs.
    """

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if isinstance(found, nn.Module):
            follower: Following | None = self.__dict__.get(OWN)
            if follower is not None and self.training and torch.is_grad_enabled():
                follower.looked_up(self, name, found)
        return found

    def extra_repr(self) -> str:
        """Also how its calls went; see `pebble.status`."""
        follower: Following | None = self.__dict__.get(OWN)
        told = "" if follower is None else f"plan: {follower.status('').summary}"
        return ", ".join(filter(None, (super().extra_repr(), told)))

    def __reduce_ex__(self, protocol: Any) -> Any:
        outer = {k: v for k, v in self.__dict__.items() if k == "forward"}
        follower: Following | None = self.__dict__.get(OWN)
        if follower is not None and not follower.lasting:
            return _itself, (unplanned(self),)
        return wrap, (unplanned(self), follower), outer or None

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
        follower: Following | None = self.__dict__.get(OWN)
        if follower is not None and not follower.lasting:
            return copy.deepcopy(unplanned(self), memo)
        own = copy.deepcopy(follower, memo)
        twin: PlannedModule = object.__new__(type(self))
        memo[id(self)] = twin  # the model may hold its own methods, as accelerate has it do
        _fill(twin, copy.deepcopy(unplanned(self), memo), own)
        if own and follower and follower.forward is not own_forward(self):
            own.forward = None  # replaced since it was planned, and so it is in the copy
        if "forward" in self.__dict__:  # put around the planned one
            twin.__dict__["forward"] = copy.deepcopy(self.__dict__["forward"], memo)
        return twin


plain.register(PlannedModule, unplanned)


def _itself(model: nn.Module) -> nn.Module:
    return model


def wrap(model: nn.Module, follower: Following | None) -> PlannedModule:
    """A module with everything of the model, whose training calls the follower answers."""
    planned: PlannedModule = object.__new__(_planned_class(type(model)))
    _fill(planned, model, follower)
    return planned


def _fill(planned: PlannedModule, model: nn.Module, follower: Following | None) -> None:
    # The dictionaries of parameters, buffers and submodules are the model's own, not copies: what
    # is replaced, moved or cast through one of the two is so for the other.
    planned.__dict__.update(model.__dict__)
    _take_over(planned, follower)


def plan_in_place(model: nn.Module, follower: Following) -> None:
    """Have a model itself answer its training calls by a follower; `unplan` undoes it.

    For loops that hold on to the very module: its identity, parameters, names and attributes stay,
    and its class becomes one of the same name below it.

    Raises
    ------
    InvalidArgument
        If the model's class cannot be exchanged.
    """
    unplan(model)
    made = _planned_class(type(model))
    try:
        model.__class__ = made
    except TypeError as error:
        raise InvalidArgument(
            f"A {type(model).__name__} cannot be planned in place ({error}). Train on what "
            "pebble.budgeted(model) returns."
        ) from None
    _take_over(model, follower)


def is_outermost(planned: nn.Module) -> bool:
    """Whether nobody has put another class before that of a planned module."""
    return MADE in vars(type(planned))


def unplan(model: nn.Module) -> None:
    """Make a planned module what it was before, in place; any other stays as it is."""
    if not isinstance(model, PlannedModule):
        return
    base = type(unplanned(model))
    model.__dict__.pop(OWN, None)
    own = model.__dict__.pop(FORWARD, None)
    if own is not None and "forward" not in model.__dict__:
        model.__dict__["forward"] = own
    model.__class__ = base  # type: ignore[assignment]


def _take_over(planned: nn.Module, follower: Following | None) -> None:
    own = planned.__dict__.pop("forward", None)
    if own is not None:
        planned.__dict__[FORWARD] = own
    planned.__dict__[OWN] = follower
    if follower is not None:
        follower.guard_forward(planned)


def _planned_class(base: type[nn.Module]) -> type[PlannedModule]:
    found = _classes.get(base)
    if found is None:
        found = _classes[base] = _make_class(base)
    return found


_classes: weakref.WeakKeyDictionary[type[nn.Module], type[PlannedModule]]
_classes = weakref.WeakKeyDictionary()


def _make_class(base: type[nn.Module]) -> type[PlannedModule]:
    """A class that is both a PlannedModule and the model's class, under the model's name."""

    def forward(self: PlannedModule, *args: Any, **kwargs: Any) -> Any:
        follower: Following | None = self.__dict__.get(OWN)
        if follower is None:
            return run_eagerly(self, args, kwargs)
        return follower.run(self, args, kwargs)

    functools.update_wrapper(forward, base.forward)
    # accelerate takes its own wrapper off by following __wrapped__ to the end: the plan stays on
    del forward.__wrapped__  # type: ignore[attr-defined]
    with contextlib.suppress(TypeError, ValueError):  # a forward that is no Python function
        forward.__signature__ = inspect.signature(base.forward)  # type: ignore[attr-defined]

    def fill(space: dict[str, Any]) -> None:
        space |= {
            # dynamo must not look inside: a planned step allocates for itself
            "forward": torch.compiler.disable(forward),  # type: ignore[no-untyped-call]
            MADE: True,
            "__doc__": base.__doc__,
            "__module__": base.__module__,
            "__qualname__": base.__qualname__,
        }

    return types.new_class(base.__name__, (PlannedModule, base), exec_body=fill)
