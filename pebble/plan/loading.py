"""Plans from files."""

from __future__ import annotations

import os

from pebble.errors import PebbleError, PlanFormatError
from pebble.plan.plan import Plan
from pebble.plan.plan_file import read_plan_file
from pebble.textfile import shown


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan that `Plan.save` wrote. Needs neither the solver nor torch.

    The file is believed in nothing that the referee can replay: peak, cost and budget must be
    those of the schedule. What only a search can prove, the file cannot: the bound is the cost of
    running every op once, and the plan is optimal only if it recomputes nothing.

    Raises
    ------
    PlanFormatError
        If the file is no plan, is damaged, has a newer major version, or claims what its schedule
        does not keep.
    """
    data = read_plan_file(path)
    try:
        return Plan.from_json(data)
    except PebbleError as error:
        raise PlanFormatError(f"The plan {shown(path)} is damaged: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # without pydantic
        reason = f"{type(error).__name__} {error}"
        raise PlanFormatError(f"The plan {shown(path)} is damaged: {reason}.") from None
