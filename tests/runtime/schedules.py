"""Schedules of captured steps that run ops again."""

from __future__ import annotations

import random

from pebble.graph import Graph
from pebble.referee import simulate
from pebble.schedule import Schedule


def everything_again(graph: Graph) -> Schedule:
    """Every forward op that may run twice runs again right before its first backward reader."""
    assert graph.boundary is not None
    order = list(range(graph.boundary + 1))
    fresh: set[int] = set()
    for i in range(graph.boundary + 1, len(graph.ops)):
        order += _again(graph, graph.boundary, graph.ops[i].inputs, fresh)
        order.append(i)
    return Schedule(tuple(order))


def _again(graph: Graph, boundary: int, values: tuple[int, ...], fresh: set[int]) -> list[int]:
    steps: list[int] = []
    for v in values:
        op = int(graph.arrays.producer[v])
        if 0 <= op < boundary and graph.ops[op].recomputable and op not in fresh:
            fresh.add(op)
            steps += [*_again(graph, boundary, graph.ops[op].inputs, fresh), op]
    return steps


def random_repeats(graph: Graph, rate: float, seed: int = 0) -> Schedule:
    """The reference order, with ops that may run again put before some of their readers."""
    rng = random.Random(seed)
    order: list[int] = []
    for i, op in enumerate(graph.ops):
        for v in op.inputs:
            producer = int(graph.arrays.producer[v])
            if producer >= 0 and graph.ops[producer].recomputable and rng.random() < rate:
                order.append(producer)
        order.append(i)
    schedule = Schedule(tuple(order))
    simulate(graph, schedule)
    return schedule
