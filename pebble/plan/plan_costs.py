"""What a plan costs: compute above the un-planned step and above the bound, and what runs again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pebble.problem import Problem
from pebble.schedule import Schedule

if TYPE_CHECKING:
    from pebble.budget import Unplanned
    from pebble.referee import Trace


class PlanCosts:
    """What a plan costs. A part of `pebble.plan.plan.Plan`."""

    problem: Problem
    schedule: Schedule
    lower_bound: int

    if TYPE_CHECKING:

        @property
        def trace(self) -> Trace:
            """The replay of the schedule."""

        @property
        def unplanned(self) -> Unplanned:
            """The step without a plan."""

    @property
    def cost(self) -> int:
        """Compute of one step, in nanoseconds of the cost model."""
        return self.trace.cost

    @property
    def overhead(self) -> float:
        """Extra compute as a fraction of the un-planned step's compute."""
        return (self.cost - self.unplanned.cost) / max(self.unplanned.cost, 1)

    @property
    def gap(self) -> float:
        """Cost over the lower bound, less one."""
        return max(self.cost / max(self.lower_bound, 1) - 1, 0.0)

    @property
    def saved(self) -> tuple[str, ...]:
        """Names of the values in memory when the backward begins."""
        return tuple(self.problem.graph.values[v].name for v in self.trace.saved)

    @property
    def recomputed(self) -> dict[str, int]:
        """Extra executions by op name."""
        graph = self.problem.graph
        counts = self.schedule.executions(len(graph.ops))
        return {graph.ops[i].name: int(n) - 1 for i, n in enumerate(counts) if n > 1}
