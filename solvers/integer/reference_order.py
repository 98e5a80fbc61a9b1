"""Checkmate's class of schedules: first executions in the reference order, in stages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pebble.graph import Graph, Value
from pebble.problem import Problem
from pebble.schedule import Schedule


def stages_of(schedule: Schedule) -> list[list[int]]:
    """The ops of each stage, sorted and each once; its own op is last where it is the largest."""
    order = np.array(schedule.order, np.int64)
    stages = schedule.stages()
    first = np.zeros(len(order), np.bool_)
    first[np.unique(order, return_index=True)[1]] = True
    found = []
    for t in range(int(stages.max(initial=-1)) + 1):
        inside = stages == t
        again = np.unique(order[inside & ~first]).tolist()
        found.append([*again, *order[inside & first].tolist()])
    return found


def in_class(graph: Graph, schedule: Schedule) -> Schedule | None:
    """The schedule with its stages in order, or None if its first runs leave that order."""
    stages = stages_of(schedule)
    if [stage[-1] for stage in stages] != list(range(len(graph.ops))):
        return None
    return Schedule(tuple(op for stage in stages for op in stage))


def in_reference_order(problem: Problem) -> Problem:
    """The problem with first executions in the reference order, told as one in free order.

    Each op makes a value of no bytes that the next one reads: its first copy can be kept at no
    cost, so nothing else changes. Schedules of Checkmate's class are schedules of this problem.
    """
    graph = problem.graph
    n, m = len(graph.ops), len(graph.values)
    mark = "next"
    while any(value.name.startswith(mark) for value in graph.values):
        mark += "_"
    marks = [Value(f"{mark}{i}", 0) for i in range(n - 1)]
    ops = [
        replace(
            op,
            inputs=op.inputs + ((m + i - 1,) if i else ()),
            outputs=op.outputs + ((m + i,) if i < n - 1 else ()),
        )
        for i, op in enumerate(graph.ops)
    ]
    told = Graph(ops, [*graph.values, *marks], name=graph.name, boundary=graph.boundary)
    return replace(problem, graph=told)
