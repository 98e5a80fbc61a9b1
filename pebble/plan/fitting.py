"""Whether a schedule of a step is within a budget of any kind, and what is told if it is not."""

from __future__ import annotations

from dataclasses import replace

from pebble.errors import BudgetNotKept
from pebble.formatting import gigabytes
from pebble.measure.step import Step
from pebble.notices import warn
from pebble.plan.cap import Cap
from pebble.plan.search import PlanSearch, given_schedule
from pebble.plan.step_search import Found
from pebble.schedule import Schedule
from pebble.solver import Result, solve


def fitting(step: Step, search: PlanSearch, schedule: Schedule, finder: str) -> Found | None:
    """A schedule as what was found for a step, if it is within the budget."""
    step = step.with_waiting(step.waiting_bytes(schedule))
    if not step.resident.admits(search.budget_bytes):
        return None
    result: Result = solve(step.footprint.problem(search.budget_bytes), given_schedule(schedule))
    found = Found(step, replace(result, solver=finder, seed=search.options.seed))
    return None if result.schedule is None or not is_held(found, search) else found


def is_held(found: Found, search: PlanSearch) -> bool:
    """Whether what was found is within the budget, of whichever kind that is."""
    assert found.result.schedule is not None
    cap = Cap.for_device(search.options.budget_kind, found.step.captured.device)
    return cap.holds(found.step.footprint, found.result.schedule, search.budget_bytes)


def tell_reserved(found: Found, search: PlanSearch) -> None:
    """Say that a card may reserve more than the budget."""
    warn(
        f"A plan for another call of {found.step.record.model} keeps its tensors within "
        f"{gigabytes(search.budget_bytes)}, but a card may reserve more for them. Use "
        "pebble.budgeted, which plans for that, or set PYTORCH_CUDA_ALLOC_CONF="
        "expandable_segments:True.",
        BudgetNotKept,
    )
