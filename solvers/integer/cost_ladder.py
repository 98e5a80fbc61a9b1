"""Checkmate's program below growing limits on the cost, each searched in integers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from pebble.problem import Problem
from pebble.schedule import FIXED_ORDER, Schedule
from pebble.solver import Answer, Halt, Progress, get_solver
from pebble.solvers.edits.incumbent import Incumbent
from pebble.solvers.integer.cp_sat import Effort, run_cpsat
from pebble.solvers.integer.highs import run_highs
from pebble.solvers.integer.moment_programs import crossing_lower_bound
from pebble.solvers.integer.outcome import Outcome
from pebble.solvers.integer.reference_order import in_class, in_reference_order, stages_of
from pebble.solvers.integer.rows import divisors
from pebble.solvers.integer.stage_model import StageModel

LARGEST_MODEL = 6_000_000
"""Terms in the memory rows; a graph of about 250 ops with few fixed ones."""
LADDER, LEVELS = 1.35, 12
"""Cost limits grow by this factor, so many of them."""


class CostLadder:
    """The search of `ilp`: one program after the other, and the best schedule of the class.

    Parameters
    ----------
    problem : Problem
    time_limit : float
        Seconds.
    seed : int
    report : callable, optional
    engine : {"cpsat", "highs"}
    threads : int
        Threads of CP-SAT.
    halt : Halt
    """

    def __init__(
        self,
        problem: Problem,
        time_limit: float,
        seed: int,
        report: Callable[[Progress], None] | None,
        engine: str,
        threads: int,
        halt: Halt,
    ) -> None:
        self.problem, self.report, self.seed = problem, report, seed
        self.engine, self.threads, self.halt = engine, threads, halt
        self.deadline = time.perf_counter() + time_limit
        self.best = Incumbent(problem, "ilp", report)
        self.own = False  # whether the best schedule is the program's
        self.byte, self.tick = divisors(problem)
        self.base = problem.graph.total_cost

    @property
    def left(self) -> float:
        """Seconds until the time limit; none once it is told to stop."""
        return 0.0 if self.halt.called else self.deadline - time.perf_counter()

    # -- incumbents --------------------------------------------------------------------------

    def begin(self, start: Iterable[Schedule]) -> None:
        """Incumbents of the class: those given, keep-all, and what `greedy` finds."""
        self.offer(Schedule.keep_all(self.problem.graph))
        for schedule in start:
            self.offer(schedule)
        if not (self.best.fits and self.best.cost == self.base):
            found = get_solver("greedy")[1](self.problem, time_limit=self.left / 4)
            if found.schedule is not None:
                self.offer(found.schedule)

    def offer(self, schedule: Schedule) -> bool:
        """Take a schedule into account, put into the class where its first runs allow."""
        inside = in_class(self.problem.graph, schedule)
        return inside is not None and self.best.offer(inside)

    # -- the two objectives ------------------------------------------------------------------

    def least_cost(self) -> Answer:
        """Programs below growing cost limits: a small limit fixes most ops and is soon settled."""
        best = self.best
        found = self._floor()
        if found is None:
            message = "No schedule in the reference order fits: one moment must hold too much."
            return Answer(best.schedule, self.base, FIXED_ORDER, infeasible=True, message=message)
        bound = found
        limit: int | None = max(self._first_limit(), int(LADDER * (bound - self.base)))
        alone = False
        while self.left > 0 and not (best.fits and best.cost <= bound):
            most = best.cost - self.base - 1 if best.fits else None
            if most is not None and (limit is None or limit >= most):
                limit = most
            model = self._model(limit)
            if model is None:
                own = best.schedule if self.own else None
                return Answer(own, bound, FIXED_ORDER, message=_too_large(self.problem))
            last = alone or limit == most
            outcome, low = self._below(model, limit, bound, self.left / (1 if last else 3))
            bound = max(bound, low)
            if outcome.impossible and limit is None:
                message = "No schedule in the reference order fits the budget."
                return Answer(best.schedule, bound, FIXED_ORDER, infeasible=True, message=message)
            alone = not outcome.impossible
            limit = self._next_limit(limit) if outcome.impossible else None
        if best.fits:
            bound = min(bound, best.cost)
        return Answer(best.schedule, bound, FIXED_ORDER)

    def _floor(self) -> int | None:
        """What one moment forces in the reference order; None: nothing fits."""
        if self.best.fits and self.best.cost == self.base:
            return self.base
        deadline = time.perf_counter() + self.left / 8
        return crossing_lower_bound(
            in_reference_order(self.problem), deadline=deadline, halt=self.halt
        )

    def _first_limit(self) -> int:
        spare = self.best.cost - self.base if self.best.fits else self._all()
        return max(int(spare * LADDER**-LEVELS), 1)

    def _next_limit(self, limit: int | None) -> int | None:
        """The next rung; None (no limit) once everything may be computed twice."""
        if limit is None or limit > 2 * self._all():
            return None
        return int(limit * LADDER) + 1

    def _all(self) -> int:
        return int(self.problem.graph.arrays.cost[self.problem.may_repeat].sum())

    def _below(
        self, model: StageModel, limit: int | None, bound: int, seconds: float
    ) -> tuple[Outcome, int]:
        """Search one program; its outcome, and what it proves about the cost of all schedules."""
        costs = model.cost_terms(self.tick)
        model.limit_memory(self.problem.budget)
        if limit is not None:
            model.rows.add(costs, limit // self.tick)

        def to_bound(found: int) -> int:
            below = max(self.base + found * self.tick, bound)
            return below if limit is None else min(below, self.base + limit + 1)

        outcome = self._run(model, costs, to_bound, seconds)
        if outcome.true is not None:
            self.own |= self.offer(Schedule(tuple(model.order(outcome.true))))
        if outcome.impossible:
            return outcome, bound if limit is None else self.base + limit + 1
        return outcome, to_bound(outcome.bound)

    def least_peak(self) -> Answer:
        """Bisection on the budget; each half is searched with nothing to minimise."""
        best, low = self.best, self.problem.working_set_bound
        fits = best.fits
        while self.left > 0 and low < (best.peak if fits else self.problem.budget + 1):
            high = best.peak if fits else self.problem.budget + 1
            budget = (low + high - 1) // 2 if fits else self.problem.budget
            model = self._model(None)
            if model is None:
                found = best.schedule if self.own else None
                return Answer(found, low, FIXED_ORDER, message=_too_large(self.problem))
            model.limit_memory(budget)
            outcome = self._run(model, [], lambda bound: 0, self.left)
            if outcome.true is not None:
                self.own |= best.offer(Schedule(tuple(model.order(outcome.true))))
                fits = best.fits
            elif outcome.impossible and not fits:
                return Answer(best.schedule, scope=FIXED_ORDER, infeasible=True)
            elif outcome.impossible:
                low = budget + 1
            else:
                break
        return Answer(best.schedule, low, FIXED_ORDER)

    # -- one program -------------------------------------------------------------------------

    def _model(self, limit: int | None) -> StageModel | None:
        """The program without ops that cost more than the limit; None if it is too large."""
        may = self.problem.may_repeat
        if limit is not None:
            may = may & (self.problem.graph.arrays.cost <= limit)
        model = StageModel(self.problem, may.tolist(), unit=self.byte)
        if model.size > LARGEST_MODEL:
            return None
        model.build()
        return model

    def _run(
        self,
        model: StageModel,
        objective: list[tuple[int, int]],
        to_bound: Callable[[int], int],
        seconds: float,
    ) -> Outcome:
        if self.engine == "highs":
            return run_highs(model.rows, objective, time_limit=seconds)

        def on_solution(true: list[bool]) -> None:
            self.own |= self.best.offer(Schedule(tuple(model.order(true))))

        def on_bound(bound: int) -> None:
            if self.report is not None:
                incumbent = self.best.cost if self.best.fits else None
                self.report(Progress(self.best.seconds, incumbent, to_bound(bound), "ilp"))

        hint = None if self.best.schedule is None else model.hint(stages_of(self.best.schedule))
        return run_cpsat(
            model.rows, objective, Effort(seconds, self.seed, self.threads), hint=hint,
            on_solution=on_solution, on_bound=on_bound if objective else None,
            halt=self.halt,
        )  # fmt: skip


def _too_large(problem: Problem) -> str:
    return (
        f"The program for {len(problem.graph.ops)} ops has more than {LARGEST_MODEL:,} terms, "
        "beyond what integer programming solves; use 'auto', 'chain' or 'anneal'."
    )
