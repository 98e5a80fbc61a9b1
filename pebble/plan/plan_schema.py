"""The form of a plan's data. Loads pydantic, so it is imported where data come in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from pebble.graph_schema import Amount, Closed, Flag, Text
from pebble.solver import Status
from pebble.wiring import LARGEST_TOTAL

Written = Annotated[int, Field(ge=0, le=LARGEST_TOTAL)]
"""A number of bytes or nanoseconds; files of old hold some of them as text."""


class ScopeForm(Closed):
    """The schedules that the bound speaks of."""

    fixed_order: Flag = False
    max_executions: Amount | None = None


class UnplannedForm(Closed):
    """The step with its loss in one piece."""

    peak_bytes: Amount
    cost: Amount
    saved_bytes: Amount
    floor_bytes: Amount


class CapForm(Closed):
    """How the budget is held."""

    kind: Literal["allocated", "reserved"] = "allocated"
    expandable_segments: Flag = False
    allowance_bytes: Amount = 0
    at_limit: Flag = False


class PlanForm(BaseModel):
    """What `pebble.plan.Plan.to_json` writes; the graph and the origin have forms of their own."""

    fingerprint: Text
    budget_bytes: Annotated[Written, Field(ge=1)]
    graph_budget: Written
    resident: dict[Text, Amount]
    optimizer_step_peak: Written
    status: Status
    lower_bound: Written
    bound_scope: ScopeForm
    predicted_peak_bytes: Amount
    predicted_cost: Amount
    solver: Text
    seed: int
    runtime: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
    options: dict[Text, Any]
    unchunked: UnplannedForm | None = None
    cap: CapForm | None = None
    origin: dict[str, Any]
    workspace_measured: Flag
    schedule: list[Amount]
    graph: dict[str, Any]


class CallForm(Closed):
    """A call of a block."""

    block: Text
    call: Amount = 0
    layer: Amount = 0


class WeightForm(Closed):
    """What a call weighs; replaying it may hold more than it saves."""

    at: CallForm
    saved_bytes: int
    cost: Amount


class ModulePlanForm(BaseModel):
    """What `pebble.plan.ModulePlan.to_json` writes; the origin has a form of its own."""

    level: Literal["module"]
    fingerprint: Text
    budget_bytes: Annotated[int, Field(strict=True, ge=1, le=LARGEST_TOTAL)]
    predicted_peak_bytes: Amount
    baseline_peak_bytes: Amount
    error_share: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    resident: dict[Text, Amount]
    optimizer_step_peak: Amount
    calls: list[WeightForm]
    chosen: list[CallForm]
    layered: Flag
    left_out: dict[Text, Text]
    step_ns: Amount
    reason: Text
    seed: int
    runtime: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    shapes: list[list[Amount]]
    origin: dict[str, Any]
