"""Plans for several calls before a backward: room is left free for what the waiting ones hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pebble.deadline import Deadline
from pebble.errors import InfeasibleBudget
from pebble.formatting import gigabytes
from pebble.measure.step import Step
from pebble.plan.known_schedules import KnownSchedules
from pebble.plan.plan import Plan
from pebble.plan.search import PlanSearch
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.solver import Status, solve

_ROUNDS = 6
"""Searches beside the first, at most: what is left free is halved in on."""
_FIRST_SHARE = 0.4

_NO_LIMIT = 2**62

Planner = Callable[[Step, PlanSearch], Plan]

KNOWN_BY_CALLS: dict[int, KnownSchedules] = {}
"""What was found in this process, by the number of calls; their peak has what the others hold."""


class InFlightSearch:
    """Rounds of planning for one call with room left free for those that wait.

    With n calls in flight the peak is that of one call by its schedule and n - 1 times what the
    schedule keeps between the halves of a call. The room is found by bisection: the more is left
    free, the less a plan keeps.

    Parameters
    ----------
    planner : callable
        Makes the plan of one call.
    step : Step
        Its options say how many calls are in flight.
    search : PlanSearch
        With the whole budget.
    """

    def __init__(self, planner: Planner, step: Step, search: PlanSearch) -> None:
        self.planner, self.step, self.search = planner, step, search
        self.known = KNOWN_BY_CALLS.setdefault(step.options.calls_in_flight, KnownSchedules())
        self.fitting: list[Plan] = []
        self.least_bytes: int | None = None

    def plan(self) -> Plan:
        """The cheapest plan found that leaves room for the calls that wait.

        Its bound on the cost is that of one call alone, which holds for several as well.

        Raises
        ------
        InfeasibleBudget
            If none is found; says the least budget that was seen to work.
        """
        alone = self._round(0, _FIRST_SHARE)
        low, high = 0, _waiting(alone)
        for left in range(_ROUNDS, 0, -1):
            if alone in self.fitting or high - low <= self.search.budget_bytes // 1000:
                break
            room = high if left == _ROUNDS else (low + high) // 2
            try:
                plan = self._round(room, 1 / left)
            except InfeasibleBudget:
                high = room
                continue
            low, high = (low, room) if _waiting(plan) <= room else (room, high)
        self._remembered(alone)
        if not self.fitting:
            raise self._infeasible()
        best = min(self.fitting, key=lambda plan: plan.cost)
        status = Status.OPTIMAL if best.cost <= alone.lower_bound else Status.FEASIBLE
        return replace(
            best, lower_bound=min(alone.lower_bound, best.cost), scope=alone.scope, status=status
        )

    def _round(self, room: int, fraction: float) -> Plan:
        deadline = Deadline(self.search.deadline.share(fraction))
        found = self.planner(self.step.with_waiting(room), replace(self.search, deadline=deadline))
        self._note(found)
        return found

    def _note(self, plan: Plan) -> None:
        """Keep the plan, with exactly the room that its own waiting calls need, if it fits."""
        assert plan.step is not None
        step = plan.step.with_waiting(_waiting(plan))
        budget = self.search.budget_bytes
        held = step.footprint.peak(plan.schedule)
        self.least_bytes = min(self.least_bytes or held, held)
        peak = simulate(step.graph, plan.schedule).peak + _waiting(plan)
        self.known.add(step.graph, plan.schedule, plan.solver, peak)
        if held <= budget:
            problem = step.footprint.problem(budget)
            self.fitting.append(replace(plan, problem=problem, resident=step.resident, step=step))

    def _remembered(self, alone: Plan) -> None:
        """Note the best that is known from before, and where nothing fits what keeps least."""
        assert alone.step is not None
        graph = alone.step.graph
        known = self.known.cheapest(alone.step.footprint.problem(self.search.budget_bytes))
        if known is not None:
            self._note(replace(alone, schedule=known.schedule, solver=known.solver))
        elif not self.fitting:
            schedule = solve(Problem(graph, _NO_LIMIT), "recompute_all").schedule
            assert schedule is not None
            self._note(replace(alone, schedule=schedule, solver="recompute_all"))

    def _infeasible(self) -> InfeasibleBudget:
        calls, budget = self.step.options.calls_in_flight, self.search.budget_bytes
        least = self.least_bytes or budget
        return InfeasibleBudget(
            f"No plan keeps {calls} calls in flight within {gigabytes(budget)}: the least seen to "
            f"work is {gigabytes(least)}. Call backward after each forward, plan a smaller "
            "micro-batch, or allow more.",
            budget_bytes=budget,
            least_bytes=least,
        )


def _waiting(plan: Plan) -> int:
    assert plan.step is not None
    return plan.step.waiting_bytes(plan.schedule)
