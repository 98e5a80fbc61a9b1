"""Plan, measure what the compiled step takes, tighten or loosen: at most three times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pebble.budget import Footprint
from pebble.errors import InfeasibleBudget
from pebble.formatting import count, gigabytes, rounded_up_gb
from pebble.schedule import Schedule

MOST_ROUNDS = 3
FULL_ENOUGH = 0.93
"""Share of the budget that a plan with recomputation is to use."""
_PROBES = 3
"""Plans that are asked for to find one that has not been measured."""
_AIM = (0.985, 0.975, 0.965)
"""Share of the budget that the rounds aim at: later ones keep more of a distance."""


@dataclass(frozen=True)
class Round:
    """One plan and what it took.

    Attributes
    ----------
    planned_within : int
        Budget of the plan, in bytes as the graph counts them.
    predicted_bytes, measured_bytes : int
        Peak of the whole step.
    recomputed : int
        Ops that run again.
    cost, least_cost : int
        Nanoseconds by the plan, and with nothing run again.
    """

    planned_within: int
    predicted_bytes: int
    measured_bytes: int
    recomputed: int
    cost: int
    least_cost: int

    def __str__(self) -> str:
        again = f"{count(self.recomputed, 'op')} run again" if self.recomputed else "all kept"
        return (
            f"predicted {gigabytes(self.predicted_bytes)}, measured "
            f"{gigabytes(self.measured_bytes)}, {again} "
            f"(+{100 * (self.cost / max(self.least_cost, 1) - 1):.1f} % compute)"
        )


@dataclass(frozen=True)
class FusedReport:
    """How a fused step came to its plan.

    Attributes
    ----------
    budget_bytes : int
    rounds : tuple of Round
        In their order.
    chosen : int
        Index of the round whose plan is followed.
    floor_bytes : int
        A peak that no plan of the fused graph undercuts: its largest working set.
    resident : mapping of str to int
        Bytes that no plan changes, by kind.
    """

    budget_bytes: int
    rounds: tuple[Round, ...]
    chosen: int
    floor_bytes: int
    resident: dict[str, int] = field(default_factory=dict)

    @property
    def measured_bytes(self) -> int:
        """Peak of the whole step as it runs, measured."""
        return self.rounds[self.chosen].measured_bytes

    @property
    def used(self) -> float:
        """Share of the budget that the step takes."""
        return self.measured_bytes / self.budget_bytes

    @property
    def recomputed(self) -> int:
        """Ops that run again."""
        return self.rounds[self.chosen].recomputed

    def __str__(self) -> str:
        lines = [
            f"Fused step within {gigabytes(self.budget_bytes)}: measured peak "
            f"{gigabytes(self.measured_bytes)} ({100 * self.used:.1f} % of the budget), plan of "
            f"round {self.chosen + 1} of {len(self.rounds)}."
        ]
        lines += [f"Round {i}: {one}." for i, one in enumerate(self.rounds, 1)]
        return "\n".join(lines)


Planner = Callable[[int], Schedule]
"""Finds a schedule of the step within a budget; one of least peak where none is found."""

Measure = Callable[[Schedule], tuple[Any, int]]
"""Compiles by a schedule; returns the compiled step and the peak of the whole step."""


def plan_in_rounds(
    step: Footprint, budget_bytes: int, plan: Planner, measure: Measure
) -> tuple[Any, FusedReport]:
    """A compiled step within a budget, and how it was found.

    Each round plans within what the graph is to count, which the measured peaks before correct.
    The round whose plan is followed is within the budget and, of those, recomputes least.

    Raises
    ------
    InfeasibleBudget
        If no round's measured peak is within the budget.
    """
    found = _Search(step, budget_bytes, plan, measure)
    found.run()
    return found.best()


@dataclass
class _Search:
    step: Footprint
    budget_bytes: int
    plan: Planner
    measure: Measure
    rounds: list[Round] = field(default_factory=list)
    schedules: list[Schedule] = field(default_factory=list)
    made: list[Any] = field(default_factory=list)

    def run(self) -> None:
        target: int | None = self.budget_bytes
        while target is not None and len(self.rounds) < MOST_ROUNDS:
            schedule = self.plan(target)
            for _ in range(_PROBES):  # plans lie apart: what is near may be the same
                if schedule not in self.schedules:
                    break
                target = self._further(target)
                schedule = self.plan(target)
            if schedule in self.schedules:
                return
            self._add(target, schedule)
            target = self._next()

    def _add(self, target: int, schedule: Schedule) -> None:
        made, measured = self.measure(schedule)
        graph = self.step.graph
        runs = schedule.executions(len(graph.ops))
        self.made.append(made)
        self.schedules.append(schedule)
        self.rounds.append(
            Round(
                planned_within=target,
                predicted_bytes=self.step.peak(schedule),
                measured_bytes=measured,
                recomputed=int((runs - 1).clip(0).sum()),
                cost=int(sum(op.cost * int(n) for op, n in zip(graph.ops, runs))),
                least_cost=graph.total_cost,
            )
        )

    def _within(self, one: Round) -> bool:
        return one.measured_bytes <= self.budget_bytes

    def _next(self) -> int | None:
        """What the next plan may count; None where the last one is good."""
        last = self.rounds[-1]
        if self._within(last) and (
            not last.recomputed or last.measured_bytes >= FULL_ENOUGH * self.budget_bytes
        ):
            return None
        if any(self._within(r) and not r.recomputed for r in self.rounds):
            return None
        aim = int(_AIM[len(self.rounds) - 1] * self.budget_bytes)
        below = [r for r in self.rounds if r.measured_bytes <= aim]
        above = [r for r in self.rounds if r.measured_bytes > aim]
        if below and above:
            low = max(below, key=lambda r: r.measured_bytes)
            high = min(above, key=lambda r: r.measured_bytes)
            share = (aim - low.measured_bytes) / (high.measured_bytes - low.measured_bytes)
            return round(low.predicted_bytes + share * (high.predicted_bytes - low.predicted_bytes))
        return aim + last.predicted_bytes - last.measured_bytes

    def _further(self, target: int) -> int:
        """Another target where the plan for this one is known: a step in the same direction."""
        last = self.rounds[-1]
        step = self.budget_bytes // 50
        return target - step if last.measured_bytes > self.budget_bytes else target + step

    def best(self) -> tuple[Any, FusedReport]:
        fitting = [i for i, one in enumerate(self.rounds) if self._within(one)]
        if not fitting:
            raise self._refusal()
        chosen = min(fitting, key=lambda i: (self.rounds[i].cost, self.rounds[i].measured_bytes))
        report = FusedReport(
            budget_bytes=self.budget_bytes,
            rounds=tuple(self.rounds),
            chosen=chosen,
            floor_bytes=self.step.peak_lower_bound,
            resident=dict(self.step.resident.kinds),
        )
        return self.made[chosen], report

    def _refusal(self) -> InfeasibleBudget:
        least = min(one.measured_bytes for one in self.rounds)
        listed = "; ".join(f"round {i}: {one}" for i, one in enumerate(self.rounds, 1))
        return InfeasibleBudget(
            f"No plan for this compiled step stays within {gigabytes(self.budget_bytes)}: the "
            f"least measured peak is {gigabytes(least)} ({listed}). Try a smaller micro-batch, "
            f"or budget_gb={rounded_up_gb(least)}.",
            budget_bytes=self.budget_bytes,
            least_bytes=least,
        )


__all__ = ["FusedReport", "Measure", "Planner", "Round", "plan_in_rounds"]
