"""What a little more memory would spare, and what a little less would cost."""

from __future__ import annotations

import math

from pebble.budget import Footprint, proved_peak_lower_bound
from pebble.deadline import Deadline
from pebble.plan.explained_parts import BudgetPrice
from pebble.plan.known_schedules import KNOWN
from pebble.plan.plan import Plan
from pebble.plan.search import QUICK_SOLVERS, starting_options
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import solve

_LARGE, _PARTS, _GB = 4e9, 4, 10**9


def budget_prices(plan: Plan, seconds: float) -> tuple[BudgetPrice, BudgetPrice]:
    """The plan's step with less and with more memory: by one GB, or less where the step is small.

    Parameters
    ----------
    plan : Plan
    seconds : float
        For both searches together.
    """
    floor = proved_peak_lower_bound(plan.footprint)
    change = _step_bytes(plan.baseline_peak_bytes - floor)
    less = _price(plan, -change, seconds / 2, floor)
    return less, _price(plan, change, seconds / 2, floor)


def _step_bytes(span: int) -> int:
    """One GB; a power of ten below a quarter of what plans can save, where that is less."""
    if span >= _LARGE:
        return _GB
    return int(10 ** max(math.floor(math.log10(max(span / _PARTS, 1))), 0))


def _price(plan: Plan, change: int, seconds: float, floor: int) -> BudgetPrice:
    budget = plan.budget_bytes + change
    room = budget - plan.cap.allowance_bytes
    overhead = None
    proved = room < floor
    if not proved:
        cost = least_cost(plan.footprint, room, seconds, plan.schedule)
        base = max(plan.unplanned.cost, 1)
        overhead = None if cost is None else cost / base - 1
    return BudgetPrice(change, budget, overhead, plan.overhead, proved)


def least_cost(
    step: Footprint, budget_bytes: int, seconds: float, start: Schedule | None = None
) -> int | None:
    """Nanoseconds of the best plan found for a step within a budget; None where none was found.

    Quick solvers first, `auto` in the time that is left; what this process has found before counts.
    """
    deadline = Deadline(seconds)
    if not step.resident.admits(budget_bytes):
        return None
    problem = step.problem(budget_bytes)
    known = KNOWN.cheapest(problem)
    found = [] if known is None else [known.schedule]
    found += [] if start is None else [start]
    for name in (*QUICK_SOLVERS, "priced", "auto"):
        within = [one for one in found if step.fits(one, budget_bytes)]
        best = min(within, key=lambda one: simulate(step.graph, one).cost, default=None)
        result = solve(
            problem,
            name,
            time_limit=deadline.share(0.5 if name == "priced" else 1.0),
            **starting_options(name, best),
        )
        if result.schedule is not None:
            found.append(result.schedule)
            KNOWN.add_result(result)
        if result.objective is not None and result.objective <= step.graph.total_cost:
            break  # nothing is computed again
    costs = [simulate(step.graph, one).cost for one in found if step.fits(one, budget_bytes)]
    return min(costs, default=None)
