"""Plans of their own for what is called inside a planned module, past its forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from pebble.errors import InvalidArgument, PebbleError
from pebble.runtime.follower import follower_of
from pebble.runtime.input_forms import InputForm
from pebble.runtime.planned_module import PlannedModule, plan_in_place, unplan
from pebble.runtime.planner import Planner
from pebble.runtime.replanning_follower import ReplanningFollower
from pebble.runtime.side_entrances import trains

PartPlanner = Callable[[nn.Module, nn.Module], Planner]
"""Takes a planned module without its plan and a part of it, and gives what plans its calls."""


class Parts:
    """The parts of one planned module that follow plans of their own, while they are watched.

    Copies, and pickled ones, make their own plans.

    Parameters
    ----------
    planner : callable
        Stands above the runtime.
    """

    def __init__(self, planner: PartPlanner) -> None:
        self.planner = planner
        self.followers: dict[nn.Module, PartFollower] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Parts, (self.planner,)

    def follow(
        self, owner: nn.Module, part: nn.Module, arrived: Callable[[], None]
    ) -> Callable[[], None] | None:
        """Have a part of a planned module follow its plans, until what is returned is called.

        None for a part that is planned already, or whose class cannot be exchanged.
        """
        if isinstance(part, PlannedModule):
            return None
        follower = self.followers.get(part)
        if follower is None or follower.forward is not own_forward_of(part):
            follower = PartFollower(self.planner(owner, part), owner, arrived)
        try:
            plan_in_place(part, follower)
        except InvalidArgument:
            return None
        self.followers[part] = follower

        def restore() -> None:
            unplan(part)

        return restore


def own_forward_of(module: nn.Module) -> Any:
    """The forward of a module without a plan: of its class, or its own."""
    return module.__dict__.get("forward", type(module).forward)


class PartFollower(ReplanningFollower):
    """What a part knows that is called past the forward of the planned module around it.

    Its calls count among those of the module around it. What cannot be planned runs without a
    plan, and is told.

    Parameters
    ----------
    planner : callable
    owner : nn.Module
        The planned module around it.
    arrived : callable
        Told of each call before it runs.
    """

    lasting = False

    def __init__(self, planner: Planner, owner: nn.Module, arrived: Callable[[], None]) -> None:
        super().__init__(planner)
        self.effect = follower_of(owner).effect
        self.arrived = arrived
        self.refused: set[InputForm] = set()

    def run(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Follow the plan that fits; without a plan, and outside training, the part itself."""
        self.arrived()
        if not trains(module, args, kwargs):
            return self.run_eagerly(module, args, kwargs)
        form = InputForm.of(args, kwargs)
        if form not in self.refused:
            try:
                member, step, tensors = self.planned_call(form, module, args, kwargs)
            except PebbleError as error:
                self.refused.add(form)
                self.effect.part_not_planned(module, error)
            else:
                return member.follow(step, module, tensors)
        return self.run_eagerly(module, args, kwargs)

    def looked_up(self, module: nn.Module, name: str, found: nn.Module) -> None:
        """What is inside a part is watched by the planned module around it."""
