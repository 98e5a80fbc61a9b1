"""Leaving out recomputations whose values there is room to keep."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pebble.graph import IntArray
from pebble.problem import Problem
from pebble.referee import Trace, simulate
from pebble.schedule import Schedule
from pebble.solvers.edits.surplus import without_unread

PASSES = 2
"""A second pass finds the room that the first one has made; a third hardly ever finds more."""


def filled(problem: Problem, schedule: Schedule, trace: Trace | None = None) -> Schedule:
    """The schedule without recomputations that the budget does not ask for.

    An execution goes if the copy before it can stay until its readers have read, and the budget
    still holds. Those that cost most for the bytes and the steps over which these are kept are
    tried first, as in a knapsack. It costs no more and fits if the given one fits.

    Parameters
    ----------
    schedule : Schedule
        Within the budget.
    trace : Trace, optional
        Its replay.
    """
    for _ in range(PASSES):
        filling = _Filling(problem, schedule, trace or simulate(problem, schedule))
        rest = filling.remaining()
        if len(rest) == len(schedule.order):
            break
        schedule, trace = Schedule(tuple(without_unread(problem.graph, rest))), None
    return schedule


class _Filling:
    """The copies of what runs more than once, and the room beside them."""

    def __init__(self, problem: Problem, schedule: Schedule, trace: Trace) -> None:
        graph, a = problem.graph, problem.graph.arrays
        self.order, self.budget = schedule.order, problem.budget
        self.live: IntArray = trace.live.astype(np.int64)
        order = np.array(schedule.order, np.int64)
        repeated = schedule.executions(len(graph.ops)) > 1
        self.runs: dict[int, list[int]] = {op: [] for op in np.flatnonzero(repeated).tolist()}
        for step in np.flatnonzero(repeated[order]).tolist():
            self.runs[schedule.order[step]].append(step)
        self.cost = {op: graph.ops[op].cost for op in self.runs}
        self.kept = {
            op: [v for v in graph.ops[op].outputs if a.size[v] and not a.pinned[v]]
            for op in self.runs
        }
        self.size = {v: int(a.size[v]) for made in self.kept.values() for v in made}
        kept = trace.kept
        theirs = repeated[order[kept.start]]
        copies = (column[theirs].tolist() for column in (kept.value, kept.start, kept.end))
        self.last = {(value, start): end for value, start, end in zip(*copies)}

    def remaining(self) -> list[int]:
        """The ops that still run, in order."""
        gone = {step for op, step in self._worthwhile() if self._keep_instead(op, step)}
        return [op for step, op in enumerate(self.order) if step not in gone]

    def _worthwhile(self) -> list[tuple[int, int]]:
        """(op, step) of all recomputations, the most cost for byte-steps first."""
        found = []
        for op, steps in self.runs.items():
            size = sum(self.size[v] for v in self.kept[op]) + 1
            for before, step in pairwise(steps):
                found.append((-self.cost[op] / (size * (step - before)), op, step))
        return [(op, step) for _, op, step in sorted(found)]

    def _keep_instead(self, op: int, step: int) -> bool:
        """Keep the copies before `step` until after it, if there is room."""
        runs = self.runs[op]
        k = runs.index(step)
        before = runs[k - 1]
        made = [v for v in self.kept[op] if (v, step) in self.last]
        since = [self.last.get((v, before), before) + 1 for v in made]
        if made:
            first = min(since)
            live = self.live[first:step].copy()
            for v, begin in zip(made, since):
                live[begin - first :] += self.size[v]
            if live.max(initial=0) > self.budget:
                return False
            self.live[first:step] = live
        for v in made:
            self.last[v, before] = self.last.pop((v, step))
        runs.pop(k)
        return True
