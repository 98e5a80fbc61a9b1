"""Some ops of a schedule decided anew by an integer program, the rest fixed."""

from __future__ import annotations

import random
import time
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from pebble.graph import IntArray
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import FIXED_ORDER, Schedule
from pebble.solver import Answer
from pebble.solvers.edits.incumbent import Incumbent
from pebble.solvers.integer.cp_sat import Effort, run_cpsat
from pebble.solvers.integer.reference_order import stages_of
from pebble.solvers.integer.rows import divisors
from pebble.solvers.integer.stage_model import Part, StageModel

SMALLEST = 16
"""Ops decided anew in the first neighbourhoods."""
WORK = 1.0
"""CP-SAT's deterministic seconds for one neighbourhood."""


class Neighbourhoods:
    """The search of `lns`: a few windows of ops at a time, each solved exactly.

    Parameters
    ----------
    problem : Problem
    start : Schedule
        Of Checkmate's class and within the budget.
    best : Incumbent
    seed : int
    deadline : float
        On `time.perf_counter`.
    """

    def __init__(
        self, problem: Problem, start: Schedule, best: Incumbent, seed: int, deadline: float
    ) -> None:
        self.problem, self.best, self.deadline, self.seed = problem, best, deadline, seed
        self.rng = random.Random(seed)
        self.cost = problem.graph.arrays.cost.tolist()
        self.candidates = np.flatnonzero(problem.may_repeat).tolist()
        self.byte, self.tick = divisors(problem)
        self.current = start
        best.offer(start)

    def run(self, rounds: int) -> Answer:
        """Search so many neighbourhoods; the answer is optimal once one has held all ops."""
        size = float(SMALLEST)
        for _ in range(rounds):
            if time.perf_counter() >= self.deadline:
                break
            chosen = self._choose(int(size))
            if chosen is None:
                break
            improved, settled = self._search(chosen)
            everything = len(chosen) == len(self.candidates)
            if everything and settled:
                return Answer(
                    self.best.schedule, simulate(self.problem, self.current).cost, FIXED_ORDER
                )
            if not improved:
                size = min(size * (1.25 if settled else 0.7), 2.0 * len(self.candidates))
                size = max(size, 4.0)
        return self.best.answer()

    def _choose(self, size: int) -> list[int] | None:
        """Candidates in windows around ops that are recomputed, about `size` of them."""
        again = self._again()
        if not again:
            return None
        if size >= len(self.candidates):
            return self.candidates
        chosen: set[int] = set()
        width = max(size // self.rng.choice((1, 2, 4)), 2)
        while len(chosen) < size:
            # The first window is around a recomputed op, half of the others anywhere.
            anywhere = chosen and self.rng.random() < 0.5
            middle = self.rng.choice(self.candidates if anywhere else again)
            low = bisect_left(self.candidates, middle) - self.rng.randrange(width)
            chosen.update(self.candidates[max(low, 0) : low + width])
        return sorted(chosen)

    def _again(self) -> list[int]:
        """Ops that the current schedule recomputes at a cost."""
        counts = self.current.executions(len(self.cost))
        return [i for i in self.candidates if counts[i] > 1 and self.cost[i]]

    def _search(self, chosen: Sequence[int]) -> tuple[bool, bool]:
        """Decide the chosen ops anew: (is it better, was it searched to the end)."""
        stages = stages_of(self.current)
        inside = set(chosen)
        spare = sum(self.cost[k] for stage in stages for k in stage[:-1] if k in inside)
        if spare < self.tick:
            return False, True
        may = np.zeros(len(self.cost), np.bool_)
        may[[k for k in chosen if self.cost[k] < spare]] = True
        model = StageModel(
            self.problem, may.tolist(), unit=self.byte, part=self._part(stages, inside)
        )
        model.build()
        model.limit_memory(self.problem.budget)
        costs = model.cost_terms(self.tick)
        model.rows.add(costs, (spare - 1) // self.tick)
        outcome = run_cpsat(
            model.rows, costs, Effort(self.deadline - time.perf_counter(), self.seed, work=WORK)
        )
        if outcome.true is None:
            return False, outcome.impossible
        self.current = Schedule(tuple(model.order(outcome.true)))
        self.best.offer(self.current)
        return True, False

    def _part(self, stages: list[list[int]], inside: set[int]) -> Part:
        """The rest of the current schedule, as it stays."""
        a, n = self.problem.graph.arrays, len(self.cost)
        touched: set[int] = set()
        for k in inside:
            touched.update(a.out_val[a.out_ptr[k] : a.out_ptr[k + 1]].tolist())
            touched.update(a.in_val[a.in_ptr[k] : a.in_ptr[k + 1]].tolist())
        touched = {v for v in touched if not a.pinned[v]}
        kept = simulate(self.problem, self.current).kept
        order = np.array(self.current.order, np.int64)
        place = self.current.stages() * n + order
        still = ~np.isin(kept.value, list(touched))
        value, start, end = kept.value[still], kept.start[still], kept.end[still]
        first = start == np.unique(order, return_index=True)[1][order[start]]
        ends = np.where(a.pinned[value] & first, n * n, place[end])
        born, grown = _running(place[start], a.size[value])
        gone, freed = _running(ends, a.size[value])

        def resting(stage: int, op: int) -> int:
            at = stage * n + op
            return grown[bisect_left(born, at)] - freed[bisect_left(gone, at)]

        fixed = [frozenset(k for k in stage[:-1] if k not in inside) for stage in stages]
        return Part(fixed, frozenset(touched), resting)


def _running(at: IntArray, size: IntArray) -> tuple[list[int], list[int]]:
    """Sorted positions, and the sum of the sizes before each."""
    by = np.argsort(at, kind="stable")
    return at[by].tolist(), [0, *np.cumsum(size[by]).tolist()]
