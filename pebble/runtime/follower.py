"""What a planned module knows of its plan, and how it finds the model's own way around it.

These are functions, not methods of the planned module: it has no name that its model might use.
"""

from __future__ import annotations

import copy
import functools
import types
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, Self

import torch
from torch import nn

from pebble.errors import PlanMismatch
from pebble.runtime.effect import Effect
from pebble.runtime.guards import Guards
from pebble.runtime.plan_status import PlanStatus
from pebble.runtime.planned_step import PlannedStep
from pebble.runtime.promise import Promise
from pebble.runtime.side_entrances import PartsPlanned
from pebble.runtime.tensor_spec import mismatch
from pebble.runtime.thread_fits import ThreadFit, Weighing
from pebble.schedule import Schedule
from pebble.tracing.captured import Captured
from pebble.tracing.inputs import Inputs
from pebble.tracing.step_form import StepForm
from pebble.verdict import Checked, Verdict

# Where a planned module keeps its follower, and a forward that its model has as an attribute.
OWN = "_pebble_follower"
FORWARD = "_pebble_forward"
MADE = "_pebble_made"
"""Marks the class that is made of a model's own."""


class PendingCheck(Protocol):
    """A comparison of the planned step with eager's that is still to be made."""

    def run(self, model: nn.Module, inputs: Inputs, *, within_budget: bool) -> Verdict:
        """Make it."""

    def on(self, captured: Captured) -> Self:
        """The same of a step that was traced again."""


class Following(ABC):
    """What planned modules of every kind know: how their calls went, and the forward they plan.

    Attributes
    ----------
    parts : PartsPlanned or None
        Plans what is called inside the planned module, past its forward; None: nobody does.
    """

    lasting = True
    """Whether copies of the planned module follow as well."""

    scope = ""  # why no more than this module is planned

    def __init__(self) -> None:
        self.effect = Effect()
        self.forward: Any = None
        self.verdict = Verdict(Checked.OFF)
        self.parts: PartsPlanned | None = None

    @abstractmethod
    def take_check(self, check: PendingCheck) -> None:
        """Have the planned step compared with eager's before it first trains."""

    @property
    @abstractmethod
    def promises(self) -> tuple[Promise, ...]:
        """What each plan was measured with and predicted to need."""

    @abstractmethod
    def run(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A call of the planned module."""

    def status(self, model: str) -> PlanStatus:
        """How the calls went so far, for a model of this name."""
        found = self.effect.status(model, self.promises)
        return replace(found, checked=str(self.verdict), scope=self.scope)

    def guard_forward(self, module: nn.Module) -> None:
        """Follow the plan while the model's forward is what it is now."""
        self.forward = own_forward(module)

    def looked_up(self, module: nn.Module, name: str, found: nn.Module) -> None:
        """A submodule was looked up on the planned module: perhaps to be called past the plan."""
        if not self.effect.inside and not torch.compiler.is_compiling():
            self.effect.entrances.watch(module, name, found, self.parts)

    def run_eagerly(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """The model's own forward, known to run."""
        self.effect.inside += 1
        try:
            return run_eagerly(module, args, kwargs)
        finally:
            self.effect.inside -= 1


class Follower(Following):
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
        promise: Promise,
    ) -> None:
        super().__init__()
        self.guards = guards
        self.schedule = schedule
        self.fingerprint = fingerprint
        self.form = form
        self.on_mismatch = on_mismatch
        self.promise = promise
        self.fits = {promise.threads: ThreadFit(promise)}  # by the number of threads
        self.step: PlannedStep | None = None
        self.check: PendingCheck | None = None

    def take_check(self, check: PendingCheck) -> None:
        """Have the planned step compared with eager's at the first call, before it runs."""
        self.check, self.verdict = check, Verdict(Checked.DUE)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        captured: Captured,
        schedule: Schedule,
        promise: Promise,
        on_mismatch: str = "error",
    ) -> Follower:
        """For a model that was captured, or one that computes the same graph.

        Raises
        ------
        InvalidSchedule, PlanMismatch
        """
        guards = Guards.of(model, captured)
        if on_mismatch == "error":
            guards.model.check_hooks(model)
        follower = cls(
            guards,
            schedule,
            captured.graph.fingerprint,
            StepForm.of(captured),
            on_mismatch,
            promise,
        )
        follower.step = PlannedStep(captured, schedule)
        return follower

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"step": None, "forward": None, "parts": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Follower:
        return self.twin(Effect())

    def twin(self, effect: Effect) -> Follower:
        """The same for a copy of the module; it holds no tensor of the model."""
        twin = copy.copy(self)
        twin.__dict__.update(self.__dict__, effect=effect, parts=copy.copy(self.parts))
        return twin

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What the plan was measured with and predicted to need."""
        return (self.promise,)

    def run(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Check, then run the planned step; or the model itself where no plan is meant for it."""
        effect, trains = self.effect, self.guards.model.training
        effect.entrances.close()
        if not torch.is_grad_enabled() or (trains and not module.training):
            effect.evaluations += 1
            return self.run_eagerly(module, args, kwargs)
        try:
            tensors = self.match(module, args, kwargs)
        except PlanMismatch as error:
            if self.on_mismatch == "error" and module.training is trains:
                raise
            effect.fell_back(module, error)
            return self.run_eagerly(module, args, kwargs)
        if self.step is None:
            self.ready(module, args, kwargs)
            tensors = self.match(module, args, kwargs)
        return self.follow(self.ready(module, args, kwargs), module, tensors)

    def match(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> list[torch.Tensor]:
        """The tensors of a call, in the order in which the step takes them.

        Raises
        ------
        PlanMismatch
        """
        if own_forward(module) is not self.forward:
            what = f"The forward of {type(module).__name__} was replaced after planning."
            raise mismatch(what, "")
        return self.guards.match(unplanned(module), args, kwargs)

    def ready(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> PlannedStep:
        """The step, traced again on these inputs if it was left behind.

        Raises
        ------
        PlanMismatch
            If the model computes another graph here.
        PlanIsWrong
            If the step gives other numbers than eager.
        """
        if self.step is None:
            self.step = self._trace(module, args, kwargs)
        if self.check is not None:
            call = Inputs(args, kwargs)
            self.verdict = self.check.run(unplanned(module), call, within_budget=True)
            self.check = None
        self._weigh(module, args, kwargs)
        return self.step

    def fit(self) -> ThreadFit:
        """How the step runs under the threads of now, once it is `ready`."""
        return self.fits.get(self.promise.threads_now()) or ThreadFit(self.promise)

    def follow(self, step: PlannedStep, module: nn.Module, tensors: list[torch.Tensor]) -> Any:
        """Run the planned step on the tensors of a call that fits it."""
        fit = self.fit()
        self.effect.begins(module, fit, step, tensors)
        held = step if fit.held is None else functools.partial(step, threads=fit.held)
        return self.guards.step(module, held, tensors)

    def _weigh(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Find out, where it is not known yet, what the threads of now change of the promise."""
        now = self.promise.threads_now()
        if now not in self.fits:
            planned = next(iter(self.fits.values())).promise
            weighing = Weighing(self.form, self.schedule, self.fingerprint, planned)
            self.fits[now] = weighing.fit(unplanned(module), Inputs(args, dict(kwargs)))
        self.promise = self.fits[now].promise

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
        if self.check is not None:
            self.check = self.check.on(captured)
        self.guards = self.guards.known(unplanned(module), captured)
        return PlannedStep(captured, self.schedule)


def follower_of(planned: nn.Module) -> Following:
    """What a planned module knows of its plan."""
    follower: Following = planned.__dict__[OWN]
    return follower


def run_eagerly(planned: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What the model's own forward returns."""
    own = planned.__dict__.get(FORWARD)
    if own is not None:
        return own(*args, **kwargs)
    return _base_of(planned).forward(planned, *args, **kwargs)


def own_forward(planned: nn.Module) -> Any:
    """The model's forward as it is now, of its class or its own."""
    own = planned.__dict__.get(FORWARD)
    return _base_of(planned).forward if own is None else own


def unplanned(planned: nn.Module) -> nn.Module:
    """The model without its plan, sharing everything else.

    A forward that was put on the planned module afterwards stays outside: it calls the planned one.
    """
    state = {k: v for k, v in planned.__dict__.items() if k not in (OWN, FORWARD, "forward")}
    plain: nn.Module = object.__new__(_base_of(planned))
    plain.__dict__.update(state)
    own = planned.__dict__.get(FORWARD)
    if own is not None:
        if getattr(own, "__self__", None) is planned:  # the model was planned in place
            own = types.MethodType(own.__func__, plain)
        plain.__dict__["forward"] = own
    return plain


def _base_of(planned: nn.Module) -> type[nn.Module]:
    """The model's own class: the made class and `PlannedModule` come before it.

    Others may stand before those: a module that was planned can be sharded afterwards.
    """
    order = type(planned).__mro__
    made = next(i for i, base in enumerate(order) if MADE in vars(base))
    return order[made + 2]
