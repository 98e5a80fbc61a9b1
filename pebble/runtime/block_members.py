"""The module-level plans of a module that plans by itself, for calls that give no graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from pebble.errors import CaptureError, InfeasibleBudget
from pebble.runtime.block_follower import BlockFollower
from pebble.runtime.effect import Effect
from pebble.runtime.input_forms import InputForm
from pebble.runtime.planner import Planner


@dataclass(frozen=True)
class PlannedBlocks:
    """A module-level plan that was made for a call.

    Attributes
    ----------
    member : BlockFollower
    seconds : float
        That it took.
    """

    member: BlockFollower
    seconds: float


BlockPlanner = Callable[
    [Planner, nn.Module, tuple[Any, ...], Mapping[str, Any], CaptureError], PlannedBlocks
]
"""Takes what plans the module, the model without its plans, a call and why it gives no graph."""


Call = tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]
"""Of a planned module, with its arguments."""


class Owner(Protocol):
    """What follows the plans of a module, of whichever kind they are.

    Attributes
    ----------
    alone : bool
        Whether a step is planned as if no micro-batch came before it.
    """

    effect: Effect
    planner: Planner
    alone: bool

    def model_of(self, module: nn.Module) -> nn.Module:
        """A module without its plans."""


class BlockMembers:
    """Plans for calls that give no graph, each made for the inputs of one of them.

    A call follows the plan of the smallest inputs that are at least as large as its own: what a
    step holds grows with its inputs. Copies, and pickled ones, make their own plans.

    Parameters
    ----------
    plan : BlockPlanner
        Stands above the runtime.
    """

    def __init__(self, plan: BlockPlanner) -> None:
        self.plan = plan
        self.members: list[BlockFollower] = []
        self.refused: dict[InputForm, CaptureError] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return BlockMembers, (self.plan,)

    def forget(self) -> None:
        """Plan anew: the model has another forward."""
        self.members, self.refused = [], {}

    def refusal(self, form: InputForm, *, graphs: bool) -> CaptureError | None:
        """Why a call gives no graph, where that need not be tried again.

        Where no call gave a graph so far (`graphs`), another form of inputs is not tried either.
        """
        if not graphs and self.refused:
            return next(iter(self.refused.values()))
        return self.refused.get(form)

    def run(
        self,
        owner: Owner,
        call: Call,
        refused: CaptureError,
    ) -> Any:
        """Run a call by the plan that holds for it, made now if there is none.

        Raises
        ------
        CaptureError
            The refusal itself, if the step cannot be planned module by module either.
        InfeasibleBudget, PlanMismatch
        """
        module, args, kwargs = call
        member = self._fitting(args, kwargs) or self._made(owner, call, refused)
        differentiated = [p for p in module.parameters() if p.requires_grad]
        there = member.promise.gradients_there(differentiated)
        if there is not None and not owner.alone and owner.planner.count_gradients(True):
            member = self._adding_up(owner, call, refused, member)
        return member.run(module, args, kwargs)

    def _fitting(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BlockFollower | None:
        fits = [member for member in self.members if member.plan.larger(args, kwargs) is None]
        return min(fits, key=lambda member: member.plan.input_bytes, default=None)

    def _made(
        self,
        owner: Owner,
        call: Call,
        refused: CaptureError,
    ) -> BlockFollower:
        module, args, kwargs = call
        made = self.plan(owner.planner, owner.model_of(module), args, kwargs, refused)
        made.member.effect = owner.effect
        made.member.guard_forward(module)
        owner.effect.planned_again(made.seconds)
        self.refused[InputForm.of(args, kwargs)] = refused
        self.members.append(made.member)
        return made.member

    def _adding_up(
        self,
        owner: Owner,
        call: Call,
        refused: CaptureError,
        found: BlockFollower,
    ) -> BlockFollower:
        """A plan that counts the gradients of earlier micro-batches, where the budget holds one."""
        before, self.members = self.members, []
        try:
            return self._made(owner, call, refused)
        except InfeasibleBudget:
            self.members, owner.alone = before, True  # what is not counted is told
            owner.planner.count_gradients(False)
            return found
