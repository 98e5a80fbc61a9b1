"""Plans whose reserved bytes on a card fit the budget: tensors get less until the rest fits too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pebble.allocator.replays import least_limit, runs_within
from pebble.allocator.training_events import training_events
from pebble.budget import Footprint
from pebble.deadline import Deadline
from pebble.errors import BudgetNotKept, InfeasibleBudget
from pebble.formatting import gigabytes, rounded_up_gb
from pebble.notices import warn
from pebble.plan.cap import Cap
from pebble.plan.plan import Plan
from pebble.plan.search import PlanSearch
from pebble.schedule import Schedule
from pebble.solver import Status

ROUNDS = 8
"""Searches, at most: each has its part of the time."""
_PATIENT_ROUNDS = 3
"""So often tensors give up half of the excess: with them, what lies between them shrinks too."""
_FIRST_STEP = 0.01
"""Of the budget: the least that tensors give up after the first round, twice as much each time."""

Planner = Callable[[PlanSearch], Plan]


class ReservedSearch:
    """Rounds of planning, simulating and tightening.

    Parameters
    ----------
    planner : callable
        Makes the plan of a search, for the tensors alone.
    search : PlanSearch
        With the whole budget.
    cap : Cap
    known : callable, optional
        From a step and a budget to a schedule that is known: what fits is never refused.
    """

    def __init__(
        self,
        planner: Planner,
        search: PlanSearch,
        cap: Cap,
        known: Callable[[Footprint, int], Schedule | None] | None = None,
    ) -> None:
        self.planner, self.search, self.cap, self.known = planner, search, cap, known
        self.first: Plan | None = None
        self.fitting: list[Plan] = []
        self.beyond: list[Plan] = []
        self.floor = 0  # no plan is known for fewer bytes of tensors

    def plan(self) -> Plan:
        """The cheapest plan found whose reserved bytes are within the budget.

        Raises
        ------
        InfeasibleBudget
            If none is found; says the least budget known to work.
        """
        budget = self.search.budget_bytes
        tensors, turns = budget, ROUNDS
        while turns:
            turns -= 1
            plan = self._round(tensors, 1 / (turns + 1) if turns < ROUNDS - 1 else 0.5)
            next_tensors = self._next(tensors, plan)
            if next_tensors is None:
                break
            tensors = next_tensors
        if not self.fitting:
            self._take_known()
        if self.fitting:
            return min(self.fitting, key=lambda plan: (plan.cost, plan.held_bytes))
        return self._at_limit()

    def _round(self, tensors: int, fraction: float) -> Plan | None:
        deadline = Deadline(self.search.deadline.share(fraction))
        try:
            found = self.planner(replace(self.search, budget_bytes=tensors, deadline=deadline))
        except InfeasibleBudget as error:
            if self.first is None:
                raise
            self.floor = max(self.floor, error.least_bytes or tensors + 1)
            return None
        plan = self._for_the_whole_budget(found, tensors)
        self.first = self.first or plan
        fits = plan.held_bytes <= self.search.budget_bytes
        (self.fitting if fits else self.beyond).append(plan)
        return plan

    def _next(self, tensors: int, plan: Plan | None) -> int | None:
        """Bytes for the tensors to try next; None where nothing is left to try."""
        budget = self.search.budget_bytes
        most_fitting = max((self._tensors(plan) for plan in self.fitting), default=0)
        least_beyond = min((plan.peak_bytes for plan in self.beyond), default=budget)
        if most_fitting:
            if plan is None or not self.beyond or self._is_cheapest():
                return None
            middle = (most_fitting + least_beyond) // 2
            return middle if least_beyond - most_fitting > budget // 100 else None
        if plan is None:  # below the floor: what is left to try is the floor itself
            return self.floor if self.floor < least_beyond else None
        excess = plan.held_bytes - budget
        given_up = excess // 2 if len(self.beyond) <= _PATIENT_ROUNDS else excess
        least_step = int(_FIRST_STEP * budget) << (len(self.beyond) - 1)
        wanted = min(tensors, plan.peak_bytes) - max(given_up, least_step)
        wanted = max(wanted, self.floor)
        return wanted if 0 < wanted < least_beyond else None

    def _take_known(self) -> None:
        """The schedule that was known before the search, if what it reserves is within the budget.

        The search looks for cheap schedules of few bytes of tensors; those of one budget reserve
        more or less, by their order.
        """
        first = self.first
        if first is None or self.known is None:
            return
        schedule = self.known(first.footprint, self.search.budget_bytes)
        if schedule is None or max(schedule.order) + 1 != len(first.problem.graph.ops):
            return
        peak = first.footprint.peak(schedule)
        found = replace(first, schedule=schedule, solver="start", cap=self.cap)
        if peak <= self.search.budget_bytes and found.held_bytes <= self.search.budget_bytes:
            self.fitting.append(self._for_the_whole_budget(found, peak))

    def _is_cheapest(self) -> bool:
        assert self.first is not None
        return min(plan.cost for plan in self.fitting) <= self.first.cost

    def _tensors(self, plan: Plan) -> int:
        return self.search.budget_bytes - plan.cap.allowance_bytes

    def _for_the_whole_budget(self, found: Plan, tensors: int) -> Plan:
        """The plan with the budget asked for, and a bound that holds for that."""
        budget, bound = self.search.budget_bytes, self.first or found
        same = bound.problem.graph == found.problem.graph
        lower_bound = bound.lower_bound if same else found.problem.graph.total_cost
        optimal = found.cost <= lower_bound
        return replace(
            found,
            budget_bytes=budget,
            problem=found.footprint.problem(budget),
            status=Status.OPTIMAL if optimal else Status.FEASIBLE,
            lower_bound=lower_bound,
            scope=bound.scope if same else found.scope,
            cap=replace(self.cap, allowance_bytes=budget - tensors),
        )

    def _at_limit(self) -> Plan:
        """The cheapest plan that runs where the allocator may reserve no more than the budget."""
        budget = self.search.budget_bytes
        settings = self.cap.settings(budget)
        for plan in sorted(self.beyond, key=lambda plan: plan.cost):
            if runs_within(training_events(plan.footprint, plan.schedule), budget, settings):
                warn(
                    f"A card reserves {gigabytes(plan.held_bytes)} for this plan where it can, "
                    f"above the budget of {gigabytes(budget)}; at a limit of that size it runs by "
                    "giving back unused segments. Set "
                    "torch.cuda.set_per_process_memory_fraction, or plan and run with "
                    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True.",
                    BudgetNotKept,
                )
                return replace(plan, cap=replace(plan.cap, at_limit=True))
        raise self._infeasible()

    def _infeasible(self) -> InfeasibleBudget:
        budget = self.search.budget_bytes
        leanest = min(self.beyond, key=lambda plan: plan.held_bytes)
        events = training_events(leanest.footprint, leanest.schedule)
        at_limit = least_limit(events, self.cap.settings(budget))
        least = at_limit if at_limit > budget else leanest.held_bytes
        return InfeasibleBudget(
            f"{gigabytes(budget)} is below the least budget known for what a card reserves for "
            f"this model, {gigabytes(least)}, {gigabytes(leanest.peak_bytes)} of it for tensors: "
            "torch's allocator takes the rest by rounding and fragmentation. Try "
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, budget_kind='allocated', or "
            f"budget_gb={rounded_up_gb(least)}.",
            budget_bytes=budget,
            least_bytes=least,
        )
