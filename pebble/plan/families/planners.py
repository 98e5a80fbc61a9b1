"""The planner of a module that plans by itself."""

from __future__ import annotations

from torch import nn

from pebble.errors import InvalidArgument
from pebble.plan.replanning import Replanner
from pebble.runtime.follower import follower_of
from pebble.runtime.replanning_follower import ReplanningFollower
from pebble.tracing.wrapped import inside


def planner_of(module: nn.Module) -> Replanner:
    """The planner of a module that plans by itself.

    Raises
    ------
    InvalidArgument
        If it follows a single plan.
    """
    follower = follower_of(inside(module))
    planner = getattr(follower, "planner", None)
    if not isinstance(follower, ReplanningFollower) or not isinstance(planner, Replanner):
        raise InvalidArgument(
            "A family needs a module that plans every batch: pebble.budgeted(model, ...), or "
            "plan.apply(model, on_mismatch='replan')."
        )
    return planner
