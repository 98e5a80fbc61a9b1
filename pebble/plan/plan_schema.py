"""The form of a plan's data. Loads pydantic, so it is imported where data come in."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from pebble.graph_schema import Amount, Closed, Flag, Text
from pebble.solver import Status


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


class PlanForm(BaseModel):
    """What `pebble.plan.Plan.to_json` writes; the graph and the origin have forms of their own."""

    fingerprint: Text
    budget_bytes: Annotated[Amount, Field(ge=1)]
    graph_budget: Amount
    resident: dict[Text, Amount]
    optimizer_step_peak: Amount
    status: Status
    lower_bound: Amount
    bound_scope: ScopeForm
    predicted_peak_bytes: Amount
    predicted_cost: Amount
    solver: Text
    seed: Annotated[int, Field(strict=True)]
    runtime: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
    options: dict[Text, Any]
    unchunked: UnplannedForm | None = None
    origin: dict[str, Any]
    workspace_measured: Flag
    schedule: list[Amount]
    graph: dict[str, Any]
