"""Schedules that are over their budget: more is evicted where they are, until they fit."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

from pebble.problem import Problem
from pebble.referee import Trace, simulate
from pebble.schedule import Schedule
from pebble.solvers.edits.surplus import without_unread

ROUNDS = 40
LONGEST = 4
"""Executions of an op, on average, beyond which nothing is hoped for."""
GRUDGE = 2.0
"""A value that was evicted is so much dearer the next time: two peaks do not pass it on forever."""


class Repair:
    """Evicts more from a schedule until it fits: fast, and near where it began.

    At the highest peak those values that are read later and not now are let go which cost least to
    have again for their bytes (and for some power of the steps until they are read); before their
    next reader they are computed again, with what that misses. The next peak follows.

    Parameters
    ----------
    problem : Problem
    deadline : float
        On `time.perf_counter`; no further round is begun after it.
    """

    def __init__(self, problem: Problem, deadline: float = float("inf")) -> None:
        graph = problem.graph
        a = graph.arrays
        self.problem, self.deadline = problem, deadline
        self.size, self.cost, self.maker = a.size.tolist(), a.cost.tolist(), a.producer.tolist()
        self.may_repeat = problem.may_repeat.tolist()
        may_go = (a.producer >= 0) & ~a.pinned & (a.size > 0)
        may_go[may_go] = problem.may_repeat[a.producer[may_go]]
        self.may_go = may_go.tolist()
        self.reads = [op.inputs for op in graph.ops]
        self.found = [  # what an op must find: inputs that are not always there
            [v for v in op.inputs if self.maker[v] >= 0 and not graph.values[v].pinned]
            for op in graph.ops
        ]

    def fit(self, schedule: Schedule, far: float = 0.0) -> Schedule | None:
        """A schedule within the budget, or None.

        Parameters
        ----------
        far : float
            The power of the steps until a value is read; above 0 for what is read late to go first.
        """
        grudges: dict[int, int] = {}
        for _ in range(ROUNDS):
            trace = simulate(self.problem, schedule)
            if trace.peak <= self.problem.budget:
                return schedule
            hopeless = len(schedule.order) > LONGEST * len(self.reads)
            if hopeless or time.perf_counter() > self.deadline:
                return None
            lower = self._lower(schedule, trace, far, grudges)
            if lower is None:
                return None
            schedule = lower
        return None

    def _lower(
        self, schedule: Schedule, trace: Trace, far: float, grudges: dict[int, int]
    ) -> Schedule | None:
        """The schedule with its peak brought down to the budget, whatever it makes of others."""
        order, at = schedule.order, trace.peak_step
        peak = _Peak(self, trace, self._next_reads(order, trace, at))
        over = trace.peak - self.problem.budget
        if not peak.evict(over, lambda v, step: GRUDGE ** grudges.get(v, 0) / (step - at) ** far):
            return None
        again: dict[int, set[int]] = {}
        for v in peak.gone:
            grudges[v] = grudges.get(v, 0) + 1
            ops = peak.needed(v)
            if ops is None:
                return None
            again.setdefault(peak.next_read[v], set()).update(ops)
        longer: list[int] = []
        for step, op in enumerate(order):
            longer += sorted(again.get(step, ()))
            longer.append(op)
        return Schedule(tuple(without_unread(self.problem.graph, longer)))

    def _next_reads(self, order: tuple[int, ...], trace: Trace, at: int) -> dict[int, int]:
        """Steps that next read what may go at a step."""
        kept, op = trace.kept, self.problem.graph.ops[order[at]]
        across = kept.value[(kept.start < at) & (kept.end > at)].tolist()
        waiting = {v for v in across if self.may_go[v]}.difference(op.inputs, op.outputs)
        found: dict[int, int] = {}
        for step in range(at + 1, len(order)):
            if not waiting:
                break
            for v in waiting.intersection(self.reads[order[step]]):
                found[v] = step
                waiting.remove(v)
        return found


class _Peak:
    """What may go at one step, what has gone, and what it takes to have it again."""

    def __init__(self, repair: Repair, trace: Trace, next_read: dict[int, int]) -> None:
        self.repair, self.next_read = repair, next_read
        self.gone: set[int] = set()
        kept = trace.kept

        @cache
        def alive(step: int) -> set[int]:
            return set(kept.value[(kept.start < step) & (kept.end >= step)].tolist())

        self._alive = alive

    def evict(self, over: int, weight: Callable[[int, int], float]) -> bool:
        """Let the best go until so many bytes are free; False if there are not so many."""
        ranked = []
        for v, step in self.next_read.items():
            ops = self.needed(v)
            if ops is not None:
                price = (1 + sum(self.repair.cost[op] for op in ops)) / self.repair.size[v]
                ranked.append((price * weight(v, step), v))
        for _, v in sorted(ranked):
            if over <= 0:
                break
            self.gone.add(v)
            over -= self.repair.size[v]
        return over <= 0

    def needed(self, value: int) -> set[int] | None:
        """Ops that make a value again before its next reader; None if one may not run again."""
        repair, step = self.repair, self.next_read[value]
        alive, found, stack = self._alive(step), set[int](), [repair.maker[value]]
        while stack:
            op = stack.pop()
            if op in found:
                continue
            if not repair.may_repeat[op]:
                return None
            found.add(op)
            for u in repair.found[op]:
                if u not in alive or (u in self.gone and self.next_read[u] > step):
                    stack.append(repair.maker[u])
        return found
