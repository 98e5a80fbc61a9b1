"""Follows a plan for every form of inputs, and has one made where there is none yet."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pebble.errors import CaptureError, InfeasibleBudget, PlanMismatch
from pebble.runtime.block_members import BlockMembers
from pebble.runtime.effect import Effect
from pebble.runtime.follower import Follower, Following, PendingCheck, own_forward, unplanned
from pebble.runtime.input_forms import InputForm
from pebble.runtime.members import MOST_CHANGES, Changes, Members
from pebble.runtime.padded_calls import Call, PaddedCalls, Rounding
from pebble.runtime.plan_status import PlanStatus
from pebble.runtime.planned_step import PlannedStep
from pebble.runtime.planner import Planned, Planner
from pebble.runtime.promise import Promise


class ReplanningFollower(Following):
    """What a planned module knows that plans by itself. Copies share plans, and add their own.

    Parameters
    ----------
    planner : Planner
        Takes the model without its plans, and the arguments of a call.
    known : iterable of (InputForm, Follower)
        Plans to begin with.
    blocks : BlockMembers, optional
        Of the calls that give no graph. Default: such a call is refused.
    padded : PaddedCalls, optional
        Rounds up calls that would each be traced. Default: every call is planned as it is.
    """

    def __init__(
        self,
        planner: Planner,
        known: Iterable[tuple[InputForm | None, Follower]] = (),
        blocks: BlockMembers | None = None,
        padded: PaddedCalls | None = None,
    ) -> None:
        super().__init__()
        self.padded = padded
        self.blocks = blocks
        self.planner = planner
        self.members = Members(known)
        self.changes = Changes()
        self.no_room: set[tuple[InputForm, int]] = set()  # for a plan with so many threads
        self.alone = False  # whether a step is planned as if no micro-batch came before it
        for member in self.members:
            member.effect = self.effect

    def take_check(self, check: PendingCheck) -> None:
        """Of the plan that it begins with."""
        first = next(iter(self.members))
        first.take_check(check)

    def status(self, model: str) -> PlanStatus:
        """How the calls went so far; of the comparisons with eager, the least that is known."""
        verdicts = dict.fromkeys(str(member.verdict) for member in self.members)
        told = "; ".join(verdicts) or str(self.verdict)
        return replace(super().status(model), checked=told)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"forward": None, "parts": None, "no_room": set()}

    def __deepcopy__(self, memo: dict[int, Any]) -> ReplanningFollower:
        twin = copy.copy(self)
        effect = Effect()
        twins = {member: member.twin(effect) for member in self.members}
        members = Members((form, twins[member]) for form, member in self.members.items())
        planner = copy.deepcopy(self.planner, memo)
        fresh = {"effect": effect, "members": members, "planner": planner, "changes": Changes()}
        fresh |= {"parts": copy.copy(self.parts), "no_room": set[tuple[InputForm, int]]()}
        fresh |= {"blocks": copy.copy(self.blocks), "padded": copy.copy(self.padded)}
        twin.__dict__.update(self.__dict__ | fresh)
        return twin

    @property
    def promises(self) -> tuple[Promise, ...]:
        """Of every member."""
        blocks = () if self.blocks is None else self.blocks.members
        return tuple(member.promise for member in (*dict.fromkeys(self.members), *blocks))

    def guard_forward(self, module: nn.Module) -> None:
        """Follow the plans while the model's forward is what it is now."""
        super().guard_forward(module)
        for member in self.members:
            member.guard_forward(module)

    def run(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Follow the plan that fits, made now if there is none; outside training, the model."""
        self.effect.entrances.close()
        if not torch.is_grad_enabled() or not module.training:
            self.effect.evaluations += 1
            return self.run_eagerly(module, args, kwargs)
        if own_forward(module) is not self.forward:
            self.members.clear()
            if self.blocks is not None:
                self.blocks.forget()
            self.guard_forward(module)
        form, call = InputForm.of(args, kwargs), (module, args, kwargs)
        blocks, graphs = self.blocks, len(self.members) > 0
        refused = None if blocks is None else blocks.refusal(form, graphs=graphs)
        if blocks is not None and refused is not None:
            return blocks.run(self, call, refused)
        try:
            rounding = self._rounding(form, *call)
            if rounding is not None:
                args, kwargs = rounding.padded(Call(args, kwargs))
                form, call = InputForm.of(args, kwargs), (module, args, kwargs)
            member, step, tensors = self.planned_call(form, *call)
        except CaptureError as error:
            if blocks is None or not error.breaks_graph:
                raise
            return blocks.run(self, call, error)
        output = member.follow(step, module, tensors)
        return output if rounding is None else rounding.cut(output)

    def _rounding(
        self, form: InputForm, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Rounding | None:
        if self.padded is None:
            return None

        def plan(padded: InputForm, call: Call) -> Planned:
            return self._made(padded, module, *call)

        return self.padded.rounding(form, module, Call(args, kwargs), self.planner, plan)

    def model_of(self, module: nn.Module) -> nn.Module:
        """A module without its plans."""
        return unplanned(module)

    def planned_call(
        self, form: InputForm, *call: Any
    ) -> tuple[Follower, PlannedStep, list[torch.Tensor]]:
        """The member that fits a call, made now if there is none, its step and its tensors.

        Raises
        ------
        InfeasibleBudget, CaptureError, InvalidArgument, PlanIsWrong, PlanMismatch
        """
        member, tensors = self._member(form, *call)
        step = member.ready(*call)
        there = None
        if not self.alone:
            there = member.promise.gradients_there([tensors[i] for i in step.differentiated])
        if there is not None and self.planner.count_gradients(True):
            member, tensors = self._adding_up(form, (member, tensors), *call)
            step = member.ready(*call)
        return member, step, tensors

    def _adding_up(
        self, form: InputForm, found: tuple[Follower, list[torch.Tensor]], *call: Any
    ) -> tuple[Follower, list[torch.Tensor]]:
        """A plan that counts the gradients of earlier micro-batches, where the budget holds one.

        Sums of sparse gradients grow, and are not counted.
        """
        before, self.members = self.members, Members()
        try:
            return self._member(form, *call)
        except (InfeasibleBudget, CaptureError):
            self.members, self.alone = before, True  # what is not counted is told
            self.planner.count_gradients(False)
            return found

    def _member(self, form: InputForm, *call: Any) -> tuple[Follower, list[torch.Tensor]]:
        """The member that fits a call, and the tensors of the call for it."""
        nearest: PlanMismatch | None = None
        slower: tuple[Follower, list[torch.Tensor]] | None = None
        for member in self.members.of(form):
            try:
                found = self._checked(self._best(member, call[0]), *call)
            except PlanMismatch as error:
                nearest = nearest or error
                continue
            if found[0].fit().told is None:
                return found
            slower = slower or found
        if slower is not None:
            return self._for_threads(form, slower, *call)
        for other, member in self.members.others(form):
            try:
                found = self._checked(member, *call)
            except PlanMismatch as error:
                if form.has_tensors_of(other) and nearest is None:
                    nearest = error
            else:
                self.members.add(form, member)  # another way to pass the same
                fits = member.fit().told is None
                return found if fits else self._for_threads(form, found, *call)
        if nearest is not None and self.changes.are_too_many(form, nearest):
            raise _changes_too_often(nearest) from None
        return self._plan(form, *call)

    def _for_threads(
        self, form: InputForm, found: tuple[Follower, list[torch.Tensor]], *call: Any
    ) -> tuple[Follower, list[torch.Tensor]]:
        """A plan for the threads of now, where the budget holds one; else what was found."""
        asked = form, torch.get_num_threads()
        if asked not in self.no_room:
            try:
                return self._plan(form, *call)
            except InfeasibleBudget:
                self.no_room.add(asked)  # what is not kept is told
        return found

    def _checked(self, member: Follower, *call: Any) -> tuple[Follower, list[torch.Tensor]]:
        tensors, left_behind = member.match(*call), member.step is None
        try:
            member.ready(*call)
        except PlanMismatch:  # saved, and of no use here
            self.members.drop(member)
            raise
        return member, member.match(*call) if left_behind else tensors

    def _best(self, member: Follower, module: nn.Module) -> Follower:
        """A member, or what was found beside training to put in its place."""
        made = self.planner.better(member, unplanned(module))
        if made is None:
            return member
        self.members.replace(member, made.member)
        return self._own(made, module)

    def _own(self, made: Planned, module: nn.Module) -> Follower:
        made.member.effect = self.effect
        made.member.guard_forward(module)
        self.effect.planned_again(made.seconds)
        return made.member

    def _plan(
        self, form: InputForm, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Follower, list[torch.Tensor]]:
        member = self._made(form, module, args, kwargs).member
        return member, member.match(module, args, kwargs)

    def _made(
        self, form: InputForm, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Planned:
        if self.padded is not None:
            self.planner.beside_bytes = self.padded.beside_bytes(form)
        try:
            made = self.planner(unplanned(module), args, kwargs)
        finally:
            if self.padded is not None:
                self.planner.beside_bytes = 0
        member = self._own(made, module)
        member.match(module, args, kwargs)
        self.members.add(form, member)
        return made


def _changes_too_often(mismatch: PlanMismatch) -> PlanMismatch:
    return PlanMismatch(
        f"{mismatch.difference} It has changed {MOST_CHANGES} times before, and every value of it "
        "needs a plan of its own. Keep it as it is, pass it as a tensor, or train the model "
        "without a plan.",
        planned=mismatch.reason,
        found=mismatch.found,
    )
