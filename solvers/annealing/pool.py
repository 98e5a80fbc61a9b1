"""The orders known for a problem: the best, the closest to the budget, others to begin from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pebble.errors import InvalidSchedule
from pebble.problem import Objective, Problem
from pebble.referee import Trace, simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress
from pebble.solvers.annealing.runs import Order

MOST = 4
"""Orders that are worth beginning from."""


@dataclass
class Pool:
    """What is known of one problem, whoever found it.

    Attributes
    ----------
    problem : Problem
    seed : int
    deadline : float
        On `time.perf_counter`.
    report : callable
    target : int, optional
        A value of the objective at which to stop; for the cost, a bound proved in free order.
    best : the best order within the budget, or None
    closest : the order with the least peak
    pool : other orders worth starting from
    """

    problem: Problem
    seed: int = 0
    deadline: float = float("inf")
    report: Callable[[Progress], None] = lambda progress: None
    target: int | None = None
    began: float = field(default_factory=time.perf_counter)
    best: Order | None = None
    best_value: int = 0
    closest: Order | None = None
    closest_peak: int = 0
    pool: list[Order] = field(default_factory=list)

    def __post_init__(self) -> None:
        trivial = (
            self.problem.working_set_bound if self.least_peak else self.problem.graph.total_cost
        )
        self.target = trivial if self.target is None else max(self.target, trivial)
        self.offer(tuple(range(len(self.problem.graph.ops))), "reference order")

    @property
    def least_peak(self) -> bool:
        """Whether the peak is what is to be least."""
        return self.problem.objective is Objective.PEAK

    def offer(self, order: Order, source: str) -> bool:
        """Take an order from anywhere into account; whether it is the best so far."""
        try:
            trace = simulate(self.problem, Schedule(order))
        except InvalidSchedule:
            return False
        if self.closest is None or trace.peak < self.closest_peak:
            self.closest, self.closest_peak = order, trace.peak
        if order not in self.pool:
            self.pool.append(order)
        value = self._value(trace)
        if trace.peak > self.problem.budget or not (self.best is None or value < self.best_value):
            return False
        self.best, self.best_value = order, value
        self._tell(source)
        return True

    def prove(self, bound: int) -> None:
        """No schedule of any order is better than this."""
        if bound > self.bound:
            self.target = max(self.target or 0, bound)
            self._tell("bound")

    @property
    def bound(self) -> int:
        """What is known to be a lower bound on the cost, in free order."""
        least = self.problem.graph.total_cost
        return least if self.least_peak else max(self.target or 0, least)

    def _tell(self, source: str) -> None:
        cost = None
        if self.best is not None:
            cost = simulate(self.problem, Schedule(self.best)).cost
        seconds = time.perf_counter() - self.began
        self.report(Progress(seconds, cost, self.bound, source))

    def _value(self, trace: Trace) -> int:
        return trace.peak if self.least_peak else trace.cost

    @property
    def done(self) -> bool:
        """Whether nothing better exists."""
        return self.best is not None and self.best_value <= (self.target or 0)

    def answer(self) -> Answer:
        """The best schedule, or the closest one."""
        order = self.best if self.best is not None else self.closest
        return Answer(None if order is None else Schedule(order))

    def narrow(self) -> None:
        """Keep the orders that are most worth beginning from."""
        self.pool = sorted(self.pool, key=self._rank)[:MOST]

    def _rank(self, order: Order) -> tuple[bool, int]:
        trace = simulate(self.problem, Schedule(order))
        over = trace.peak > self.problem.budget
        return over, trace.peak if over or self.least_peak else trace.cost
