"""What a module that follows a module-level plan knows of it, and the check of every call."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pebble.arguments import one_of
from pebble.block_calls import BlockCall
from pebble.errors import BudgetNotKept, PebbleWarning, PlanMismatch
from pebble.measure.blocks import parameters_fingerprint, reason_against
from pebble.notices import warn
from pebble.runtime.block_runner import BlockRunner, Running
from pebble.runtime.follower import Following, PendingCheck, run_eagerly, unplanned
from pebble.runtime.planned_module import MISMATCH, PlannedModule, wrap
from pebble.runtime.promise import Promise
from pebble.tracing.torch_private.modules import has_global_hooks
from pebble.tracing.torch_private.pytree import tree_leaves


@dataclass(frozen=True)
class BlockPlan:
    """What a module-level plan tells the module that follows it.

    Attributes
    ----------
    chosen : tuple of BlockCall
        Calls that keep their inputs only.
    calls : mapping of str to int
        How often each block was called at planning.
    layered : bool
        Recurrent networks run layer by layer.
    shapes : tuple of tuple of int
        Of the tensors among the inputs.
    input_bytes : int
    step_bytes : int
        What the step was measured to hold beyond what is resident.
    fingerprint : str
        Of the model's parameters.
    """

    chosen: tuple[BlockCall, ...]
    calls: Mapping[str, int]
    layered: bool
    shapes: tuple[tuple[int, ...], ...]
    input_bytes: int
    step_bytes: int
    fingerprint: str

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks with a chosen call."""
        return tuple(dict.fromkeys(at.block for at in self.chosen))

    def larger(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
        """How the inputs of a call exceed those that were planned, in words."""
        leaves = tree_leaves((args, dict(kwargs)))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        total = sum(t.numel() * t.itemsize for t in tensors)
        if len(tensors) == len(self.shapes):
            found = sorted(tuple(t.shape) for t in tensors)
            planned = sorted(self.shapes)
            if all(map(_within, (tuple(t.shape) for t in tensors), self.shapes)):
                return None
            if all(map(_within, found, planned)):  # in another order, by keyword perhaps
                return None
            return f", but come in shapes {_told(found)}."
        return None if total <= self.input_bytes else f", but come with {total:,} bytes."


class BlockFollower(Following):
    """Runs a model's own forward by a module-level plan, and counts how calls went.

    Parameters
    ----------
    plan : BlockPlan
    promise : Promise
    on_mismatch : "error" or "eager"
    """

    def __init__(self, plan: BlockPlan, promise: Promise, on_mismatch: str) -> None:
        super().__init__()
        self.plan, self.promise, self.on_mismatch = plan, promise, on_mismatch
        self.told: set[str] = set()
        self.running: list[weakref.ref[Running]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return BlockFollower, (self.plan, self.promise, self.on_mismatch)

    def __deepcopy__(self, memo: dict[int, Any]) -> BlockFollower:
        return BlockFollower(self.plan, self.promise, self.on_mismatch)

    @property
    def promises(self) -> tuple[Promise, ...]:
        """What the plan was measured with and predicted to need."""
        return (self.promise,)

    def take_check(self, check: PendingCheck) -> None:
        """Nothing: the model's own forward runs, and blocks are compared when the plan is made."""

    def run(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the model, its chosen calls keeping their inputs only, where it trains."""
        effect = self.effect
        effect.entrances.close()
        effect.inside += 1  # submodules that are looked up from here on are looked up by the plan
        try:
            if torch.is_grad_enabled() and module.training:
                return self._train(module, args, kwargs)
            effect.evaluations += 1
            return run_eagerly(module, args, kwargs)
        finally:
            effect.inside -= 1

    def _train(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        effect = self.effect
        try:
            self._check(module, args, kwargs)
        except PlanMismatch as error:
            if self.on_mismatch == "error":
                raise
            effect.fell_back(module, error)
            return run_eagerly(module, args, kwargs)
        self._tell_what_is_not_counted(module, args, kwargs)
        effect.planned += 1
        runner = BlockRunner(self.plan.calls, self.plan.chosen, layered=self.plan.layered)
        with runner.in_place(module, self.plan.calls) as running:
            output = run_eagerly(module, args, kwargs)
        self._wait_for_backward(running, output)
        self._tell_more_calls(module, running)
        return output

    def _check(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Refuse a call that its plan does not hold for."""
        for name in self.plan.blocks:
            reason = reason_against(module.get_submodule(name))
            if reason is not None:
                raise _mismatch(f"Block {name!r} {reason}.", "")
        larger = self.plan.larger(args, kwargs)
        if larger is not None and self.on_mismatch == "error":
            raise _mismatch(f"Inputs were planned with shapes {_told(self.plan.shapes)}", larger)

    def _tell_what_is_not_counted(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        promise, name = self.promise, f"The planned {type(module).__name__}"
        larger = self.plan.larger(args, kwargs)
        if larger is not None:
            self._tell(
                "larger",
                f"{name} is called with larger inputs than it was planned with"
                f"{larger.removeprefix(', but')} Its memory is not that of the plan: plan on the "
                "largest batch.",
            )
        threads = promise.other_threads()
        there = promise.gradients_there([p for p in module.parameters() if p.requires_grad])
        for key, what in (("threads", threads), ("gradients", there)):
            if what is not None:
                self._tell(key, f"{name} {what}")
        waiting = [r for r in (ref() for ref in self.running) if r is not None and not r.replayed]
        if waiting and not promise.has_room(len(waiting) * self.plan.step_bytes):
            self._tell(
                "calls",
                f"{name} is called while {len(waiting)} of its calls wait for their backward, "
                "and each keeps its own activations: call backward before the next forward, or "
                "plan with so much less.",
            )
        if has_global_hooks():
            what = "runs under a global module hook, which sees calls that run again twice."
            self._tell("hooks", f"{name} {what}", PebbleWarning)

    def _wait_for_backward(self, running: Running, output: Any) -> None:
        """Remember that this call's backward has not begun, for as long as its graph is there."""

        def began(gradient: torch.Tensor) -> None:
            running.replayed = True

        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor) and leaf.requires_grad and not leaf.is_leaf:
                leaf.register_hook(began)  # type: ignore[no-untyped-call, unused-ignore]
        self.running = [ref for ref in self.running if ref() is not None]
        self.running.append(weakref.ref(running))

    def _tell_more_calls(self, module: nn.Module, running: Running) -> None:
        for block, count in running.calls.items():
            planned = self.plan.calls.get(block, 0)
            if count > planned:
                self._tell(
                    "more",
                    f"The planned {type(module).__name__} called block {block!r} {count} times in "
                    f"a step that was planned with {planned}: its memory is not that of the plan. "
                    "Plan on the step that calls it most.",
                )

    def _tell(self, key: str, text: str, kind: type[PebbleWarning] = BudgetNotKept) -> None:
        if key not in self.told:
            self.told.add(key)
            warn(text, kind)


def follow(model: nn.Module, plan: BlockPlan, promise: Promise, on_mismatch: str) -> PlannedModule:
    """A module with a model's parts that runs by a module-level plan.

    Raises
    ------
    InvalidArgument, PlanMismatch
    """
    one_of("on_mismatch", on_mismatch, MISMATCH)
    if isinstance(model, PlannedModule):
        model = unplanned(model)
    if parameters_fingerprint(model) != plan.fingerprint:
        raise PlanMismatch(
            f"This plan was made for a model with other parameters than this "
            f"{type(model).__name__} has. Make a new plan with pebble.optimize."
        )
    for name in plan.calls:
        try:
            model.get_submodule(name)
        except AttributeError:
            raise PlanMismatch(
                f"This plan was made for a model with a block {name!r}, which this "
                f"{type(model).__name__} lacks. Make a new plan with pebble.optimize."
            ) from None
    return wrap(model, BlockFollower(plan, promise, on_mismatch))


def _within(found: tuple[int, ...], planned: tuple[int, ...]) -> bool:
    return len(found) == len(planned) and all(a <= b for a, b in zip(found, planned))


def _told(shapes: Any) -> str:
    return ", ".join(str(list(shape)) for shape in shapes) or "none"


def _mismatch(planned: str, found: str) -> PlanMismatch:
    return PlanMismatch(
        f"{planned}{found} Plan again with pebble.optimize on the largest step, or apply the plan "
        "with on_mismatch='eager'.",
        planned=planned,
        found=found,
    )
