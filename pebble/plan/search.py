"""The search for a schedule within a budget: asked before it starts, timed as a whole.

`optimize`, the advice on batches and recipes and the back end of torch.compile all look for
schedules through here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from pebble.budget import Footprint, LeastKnown, least_known_peak
from pebble.deadline import Deadline
from pebble.formatting import gigabytes
from pebble.options import SearchOptions
from pebble.plan.known_schedules import KNOWN, KnownSchedule
from pebble.problem import Problem
from pebble.progress import progress_line
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Result, Solver, capabilities, solve

logger = logging.getLogger("pebble")

QUICK_SOLVERS = ("keep_all", "sqrt", "recompute_all")
"""Those that say at once whether something fits."""
_FIRST_SHARE = 0.6
"""Of the time, for the solver where nothing is known to fit: the rest is for what is tried next."""
_REFUSAL_SECONDS = 5.0
"""For the least peak that a refusal names, where it is proved beforehand that nothing fits."""


@dataclass(frozen=True)
class PlanSearch:
    """A budget for the whole step, how a schedule within it is looked for, and until when."""

    budget_bytes: int
    options: SearchOptions
    deadline: Deadline

    def find(self, step: Footprint, start: Schedule | None = None) -> Result | None:
        """The best schedule found within the budget; None if none was found.

        Parameters
        ----------
        start : Schedule, optional
            A known schedule: given to a solver that can begin with it, and kept if the solver
            finds none cheaper.
        """
        if not step.resident.admits(self.budget_bytes):
            return None
        problem = step.problem(self.budget_bytes)
        remembered = KNOWN.cheapest(problem)
        if self._takes_any:
            start = _cheaper(problem, start, remembered)
        known = self._known(problem, start, remembered)
        result = self._solve(problem, start, 1.0 if known is not None else _FIRST_SHARE)
        KNOWN.add_result(result)  # its bound too, which a better start does not bring along
        result = best_of(result, start)
        if result.schedule is None and known is not None and known.schedule is not None:
            return self._instead(problem, known.schedule, known.solver)
        KNOWN.add_result(result)
        if result.schedule is None:
            return None
        return KNOWN.with_bound(result) if self._takes_any else result

    def remembered(self, step: Footprint) -> Result | None:
        """The best schedule that is known without a search."""
        if not step.resident.admits(self.budget_bytes):
            return None
        problem = step.problem(self.budget_bytes)
        known = KNOWN.cheapest(problem)
        return None if known is None else KNOWN.with_bound(_as_result(problem, known))

    def least(self, step: Footprint) -> LeastKnown:
        """The least peak known for a step, looked for in the time that is left.

        Below the peak that no schedule undercuts there is nothing to find within the budget: what
        is looked for is only said, and nobody waits long for that.
        """
        known = KNOWN.leanest(step.graph)
        left = self.deadline.share()
        hopeless = self.budget_bytes < step.peak_lower_bound
        least = least_known_peak(
            step,
            time_limit=min(left, _REFUSAL_SECONDS) if hopeless else left,
            seed=self.options.seed,
            start=None if known is None else known.schedule,
        )
        peak_bytes = simulate(step.graph, least.schedule).peak
        KNOWN.add(step.graph, least.schedule, "minpeak", peak_bytes)
        return least

    def adopt(self, step: Footprint, least: LeastKnown) -> Result | None:
        """The schedule of least peak as the result, where it fits the budget."""
        if least.peak_bytes > self.budget_bytes:
            return None
        return self._instead(step.problem(self.budget_bytes), least.schedule, "minpeak")

    @property
    def _takes_any(self) -> bool:
        """Whether a schedule may be anybody's: who names a solver or an order wants its own."""
        return self.options.solver == "auto" and "order" not in self.options.solver_options

    def _known(
        self, problem: Problem, start: Schedule | None, remembered: KnownSchedule | None
    ) -> Result | None:
        """A schedule that is known to fit before the solver is called."""
        if start is not None:
            given = solve(problem, given_schedule(start))
            if given.schedule is not None:
                return given
        found = [] if remembered is None else [_as_result(problem, remembered)]
        for name in QUICK_SOLVERS:
            result = solve(problem, name, time_limit=self.deadline.share())
            if result.schedule is not None:
                found.append(result)
                break
        return min(found, key=lambda one: one.objective or 0, default=None)

    def _solve(self, problem: Problem, start: Schedule | None, fraction: float) -> Result:
        options = {
            **self.options.solver_options,
            **starting_options(self.options.solver, start),
        }
        with progress_line(self.options.display, "plan", self.options.time_limit) as line:
            line.stage("solve")
            result = solve(
                problem,
                self.options.solver,
                time_limit=self.deadline.share(fraction),
                seed=self.options.seed,
                **options,
            )
        return replace(result, options=MappingProxyType(dict(self.options.solver_options)))

    def _instead(self, problem: Problem, schedule: Schedule, finder: str) -> Result:
        """A known schedule where the solver has found none; whoever found it is named."""
        logger.warning(
            "Solver %r found no plan within %s; this plan is that of %r. Try solver='auto' or a "
            "longer time_limit.",
            self.options.solver,
            gigabytes(self.budget_bytes),
            finder,
        )
        result = replace(solve(problem, given_schedule(schedule)), solver=finder)
        KNOWN.add_result(result)
        return result


def starting_options(solver: str | Solver, start: Schedule | None) -> dict[str, Any]:
    """The option that hands a known schedule to a solver, if it has one."""
    takes = start is not None and capabilities(solver).start
    return {"start": start} if takes else {}


def best_of(result: Result, start: Schedule | None) -> Result:
    """The result, or `start` in its place where that fits the budget at a lower cost."""
    if start is None:
        return result
    known = solve(result.problem, given_schedule(start))
    if known.trace is None or (result.trace and result.trace.cost <= known.trace.cost):
        return result
    return replace(known, solver=result.solver, runtime=result.runtime, seed=result.seed)


def _cheaper(
    problem: Problem, start: Schedule | None, remembered: KnownSchedule | None
) -> Schedule | None:
    """The cheaper of what was given and what is remembered; the second fits the budget."""
    if remembered is None:
        return start
    if start is not None:
        given = solve(problem, given_schedule(start)).objective
        if given is not None and given <= remembered.cost(problem.graph):
            return start
    return remembered.schedule


def _as_result(problem: Problem, known: KnownSchedule) -> Result:
    return replace(solve(problem, given_schedule(known.schedule)), solver=known.solver)


def given_schedule(schedule: Schedule) -> Solver:
    """A solver that answers with this schedule."""

    def given(problem: Problem) -> Answer:
        return Answer(schedule)

    return given
