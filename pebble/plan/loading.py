"""Plans from files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from pebble.plan.families.family import Family
from pebble.plan.module_plan import ModulePlan
from pebble.plan.plan import Plan
from pebble.plan.plan_file import build_from_file

Saved = Plan | ModulePlan | Family


def load_plan(path: str | os.PathLike[str]) -> Saved:
    """Read what `save` of a plan or of a family wrote. Needs neither solver nor torch.

    The file is believed in nothing that the referee can replay: peak, cost and budget must be
    those of the schedule. What only a search can prove, the file cannot: the bound is the cost of
    running every op once, and the plan is optimal only if it recomputes nothing.

    Raises
    ------
    PlanFormatError
        If the file is no plan, is damaged, has a newer major version, or claims what its schedule
        does not keep.
    """

    def builder(data: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Saved]:
        kinds: dict[str, Callable[[Mapping[str, Any]], Saved]]
        kinds = {ModulePlan.level: ModulePlan.from_json, Family.level: Family.from_json}
        return kinds.get(str(data.get("level")), Plan.from_json)

    return build_from_file(path, builder)
