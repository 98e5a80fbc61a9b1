"""A run of the reference order under a memory limit, evicting and recomputing on the way."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from pebble.graph import Graph
from pebble.problem import Problem
from pebble.schedule import Schedule


class EvictingRun:
    """Dynamic tensor rematerialisation (DTR, arXiv 2006.09616), knowing the future.

    Ops run in the reference order. Before an op runs, values are evicted until its results and
    workspace fit the limit: largest size x distance / cost first. DTR's distance is the time
    since the last read; here the order is known, so it is the time to the next one. Its cost is
    that of computing the value again, with what has been evicted upstream. An evicted input is
    computed again when it is read, and so are its own missing inputs.

    Parameters
    ----------
    problem : Problem
    """

    def __init__(self, problem: Problem) -> None:
        graph: Graph = problem.graph
        a, n = graph.arrays, len(graph.ops)
        self.n = n
        self.size, self.cost = a.size.astype(np.float64), a.cost.tolist()
        self.workspace, self.pinned = a.workspace.tolist(), a.pinned.tolist()
        self.may_repeat = problem.may_repeat.tolist()
        self.producer = a.producer.tolist()
        self.inputs = _rows(a.in_ptr.tolist(), a.in_val.tolist())
        self.outputs = _rows(a.out_ptr.tolist(), a.out_val.tolist())
        self.readers = _rows(a.use_ptr.tolist(), a.use_op.tolist())
        self.needed_until = self._needed_until(len(graph.values))

    def _needed_until(self, n_values: int) -> list[int]:
        """Last position of the reference order that may still ask for a value."""
        until = [-1] * n_values
        for i in reversed(range(self.n)):
            again = max((until[v] for v in self.outputs[i]), default=-1)
            until_here = max(i, again) if self.may_repeat[i] else i
            for v in self.inputs[i]:
                until[v] = max(until[v], until_here)
        return until

    def schedule(self, limit: int, *, most_steps: int) -> Schedule | None:
        """The order that keeps within `limit` where it can, or None beyond `most_steps`."""
        return _Run(self, limit, most_steps).order()


class _Run:
    def __init__(self, plan: EvictingRun, limit: int, most_steps: int) -> None:
        values = len(plan.size)
        self.p, self.limit, self.most_steps = plan, float(limit), most_steps
        self.held = np.zeros(values, np.bool_)
        self.evictable = np.zeros(values, np.bool_)
        self.next_use = np.zeros(values, np.float64)
        self.price = np.ones(values, np.float64)  # cost of having it again
        self.locks = np.zeros(values, np.int64)
        self.use_at = [0] * values
        self.live = 0.0
        self.done = bytearray(plan.n)
        self.steps: list[int] = []
        for i, outputs in enumerate(plan.outputs):
            self.price[outputs] = plan.cost[i] + 1
        self.dies: list[list[int]] = [[] for _ in range(plan.n)]
        for v, until in enumerate(plan.needed_until):
            if until >= 0 and plan.producer[v] >= 0 and not plan.pinned[v]:
                self.dies[until].append(v)

    def order(self) -> Schedule | None:
        for now in range(self.p.n):
            if not self._compute(now, now):
                return None
            self._pass(now)
        return Schedule(tuple(self.steps))

    def _compute(self, op: int, now: int) -> bool:
        """Run `op` after whatever it misses; False beyond the limit of steps."""
        stack = [op]
        self.locks[self.p.inputs[op]] += 1
        while stack:
            i = stack[-1]
            missing = [v for v in self.p.inputs[i] if not self.held[v]]
            if missing:
                nearest = self.p.producer[missing[0]]
                self.locks[self.p.inputs[nearest]] += 1
                stack.append(nearest)
                continue
            self._run(i, now)
            self.locks[self.p.inputs[stack.pop()]] -= 1
            if len(self.steps) > self.most_steps:
                return False
        return True

    def _run(self, i: int, now: int) -> None:
        p, first = self.p, not self.done[i]
        new = [v for v in p.outputs[i] if not self.held[v]]
        doubles = sum(p.size[v] for v in p.outputs[i] if p.pinned[v] and not first)
        size = float(p.size[new].sum())
        self._make_room(size + doubles + p.workspace[i], now)
        self.steps.append(i)
        self.done[i] = 1
        self.live += size
        for v in new:
            self.held[v] = True
            self.evictable[v] = p.may_repeat[i] and not p.pinned[v]
            self._look_ahead(v, now)
            if not first:
                self._reprice(v, -self.price[v])

    def _look_ahead(self, v: int, now: int) -> None:
        readers, k = self.p.readers[v], self.use_at[v]
        while k < len(readers) and readers[k] <= now:
            k += 1
        self.use_at[v] = k
        self.next_use[v] = readers[k] if k < len(readers) else 2 * self.p.n

    def _pass(self, now: int) -> None:
        """What the op at `now` was the last to read is free."""
        for v in self.p.inputs[now]:
            self._look_ahead(v, now)
        for v in (*self.dies[now], *self.p.outputs[now]):
            dead = self.p.needed_until[v] <= now and not self.p.pinned[v]
            if dead and self.held[v]:
                self.held[v] = False
                self.live -= float(self.p.size[v])

    def _make_room(self, need: float, now: int) -> None:
        over = self.live + need - self.limit
        if over <= 0:
            return
        free = np.flatnonzero(self.held & self.evictable & (self.locks == 0) & (self.p.size > 0))
        score = self.p.size[free] * np.maximum(self.next_use[free] - now, 0.5) / self.price[free]
        for v in free[np.argsort(-score, kind="stable")].tolist():
            self.held[v] = False
            self.live -= float(self.p.size[v])
            over -= float(self.p.size[v])
            self._reprice(v, self.price[v])
            if over <= 0:
                return

    def _reprice(self, v: int, change: float) -> None:
        """What is computed from v is dearer to have again while v is gone."""
        for reader in self.p.readers[v]:
            if self.done[reader]:
                outputs = self.p.outputs[reader]
                self.price[outputs] = np.maximum(self.price[outputs] + change, 1.0)


def _rows(pointers: list[int], items: list[int]) -> list[list[int]]:
    return [items[a:b] for a, b in pairwise(pointers)]
