"""Leaving out recomputations that do not lower the peak."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from pebble.graph import Graph
from pebble.problem import Problem
from pebble.referee import Trace, simulate
from pebble.schedule import Schedule


def trimmed(problem: Problem, schedule: Schedule, trace: Trace, rounds: int) -> Iterator[Schedule]:
    """Ever cheaper variants of a schedule.

    A value computed again that is live at the peak might as well have been kept: at the peak that
    takes no more memory, and it frees what the recomputation reads. Each round leaves out all
    such executions, and those that nothing reads any more.

    Parameters
    ----------
    trace : Trace
        The replay of the schedule.
    rounds : int
        Variants at most; fewer when nothing computed again is live at the peak.
    """
    for k in range(rounds):
        order = np.array(schedule.order, np.int64)
        again = np.ones(len(order), np.bool_)
        again[np.unique(order, return_index=True)[1]] = False
        kept, at = trace.kept, trace.peak_step
        live = (kept.start <= at) & (kept.end >= at) & again[kept.start]
        if not live.any():
            return
        rest = np.delete(order, np.unique(kept.start[live])).tolist()
        schedule = Schedule(tuple(without_unread(problem.graph, rest)))
        yield schedule
        if k < rounds - 1:
            trace = simulate(problem, schedule)


def without_unread(graph: Graph, order: list[int]) -> list[int]:
    """The order without executions after the first whose results nothing reads."""
    a = graph.arrays
    loose = (~a.pinned).tolist()
    in_val, out_val = a.in_val.tolist(), a.out_val.tolist()
    reads = [in_val[x:y] for x, y in pairwise(a.in_ptr.tolist())]
    makes = [[v for v in out_val[x:y] if loose[v]] for x, y in pairwise(a.out_ptr.tolist())]
    first: dict[int, int] = {}
    for step, op in enumerate(order):
        first.setdefault(op, step)
    awaited = bytearray(len(loose))
    rest = []
    for step in range(len(order) - 1, -1, -1):
        op = order[step]
        if first[op] == step or any(awaited[v] for v in makes[op]):
            rest.append(op)
            for v in makes[op]:
                awaited[v] = 0
            for v in reads[op]:
                awaited[v] = 1
    return rest[::-1]
