"""`status`: whether a planned module follows its plan."""

from __future__ import annotations

from torch import nn

from pebble.errors import InvalidArgument
from pebble.runtime.follower import follower_of
from pebble.runtime.plan_status import PlanStatus
from pebble.runtime.planned_method import PlannedMethod
from pebble.runtime.planned_module import PlannedModule


def status(module: nn.Module) -> PlanStatus:
    """Whether a planned module follows its plan: how its calls went so far, and why.

    Parameters
    ----------
    module : nn.Module
        What `Plan.apply` or `pebble.budgeted` returned, a module with one such part (a wrapper), or
        a LightningModule whose training step is planned.

    Raises
    ------
    InvalidArgument
        If there is no planned module in it, or several.

    Examples
    --------
    >>> import torch, pebble
    >>> model = torch.nn.Linear(4, 2)
    >>> plan = pebble.optimize(model, torch.ones(3, 4), budget_gb=1)
    >>> planned = plan.apply(model)
    >>> planned(torch.ones(3, 4)).sum().backward()
    >>> pebble.status(planned).in_effect
    True
    """
    planned = _planned_part(module)
    return follower_of(planned).status(type(planned).__name__)


def _planned_part(module: nn.Module) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise InvalidArgument(
            f"status takes a planned module, not a {type(module).__name__}; pass what "
            "plan.apply(model) returned."
        )
    if isinstance(module, PlannedModule):
        return module
    methods = [m.planned for m in vars(module).values() if isinstance(m, PlannedMethod)]
    if len(methods) == 1:
        return methods[0]
    found = {name: m for name, m in module.named_modules() if isinstance(m, PlannedModule)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise InvalidArgument(
            f"This {type(module).__name__} has several planned modules ({', '.join(found)}); pass "
            "one of them to status."
        )
    raise InvalidArgument(
        f"This {type(module).__name__} follows no plan; pass what plan.apply(model) returned."
    )
