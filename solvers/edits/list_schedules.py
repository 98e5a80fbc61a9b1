"""Reference orders that hold less: list scheduling, and problems told in another order.

Compiled annealing finds better ones, but not in the first second of a first run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from pebble.graph import Graph
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solvers.edits.eviction import EvictingRun

DRIFTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5)
"""How much of the mean value an op is put back for each place that it is early."""
LIMITS = (1.0, 0.96)
"""Shares of the budget that evicting runs are told to keep to."""
LARGEST = 2_500
"""Ops beyond which list scheduling takes too long for a first plan."""


def lean_schedules(problem: Problem) -> Iterator[Schedule]:
    """Every op once in a few lean orders, then evicting runs along those that do not fit.

    Examples
    --------
    >>> import networkx as nx
    >>> trees = nx.DiGraph()  # two pairs of leaves, listed before their roots
    >>> trees.add_nodes_from(["a", "b", "c", "d"])
    >>> trees.add_edges_from([("a", "ab"), ("b", "ab"), ("c", "cd"), ("d", "cd")])
    >>> problem = Problem(Graph.from_networkx(trees), 3)
    >>> simulate(problem, next(lean_schedules(problem))).peak
    3
    """
    if len(problem.graph.ops) > LARGEST:
        return
    peaks: dict[tuple[int, ...], int] = {}
    for drift in DRIFTS:
        order = tuple(_list_schedule(problem, drift))
        if order not in peaks:
            peaks[order] = simulate(problem, order).peak
            yield Schedule(order)
    if not problem.may_repeat.any():
        return
    for order in sorted(peaks, key=peaks.__getitem__):
        told = replace(problem, graph=_told(problem.graph, order))
        run = EvictingRun(told)
        for share in LIMITS:
            limit = max(int(share * problem.budget), problem.working_set_bound)
            found = run.schedule(limit, most_steps=3 * len(order) + 50)
            if found is not None:
                yield Schedule(tuple(order[k] for k in found))


def _told(graph: Graph, order: tuple[int, ...]) -> Graph:
    """The same graph with its ops in another order."""
    boundary = None if graph.boundary is None else order.index(graph.boundary)
    return Graph([graph.ops[i] for i in order], graph.values, name=graph.name, boundary=boundary)


def _list_schedule(problem: Problem, drift: float) -> list[int]:
    """Of the ops that are ready, always the one that adds the fewest bytes, less what it frees."""
    a, n = problem.graph.arrays, len(problem.graph.ops)
    inputs = [a.in_val[x:y].tolist() for x, y in pairwise(a.in_ptr.tolist())]
    outputs = [a.out_val[x:y].tolist() for x, y in pairwise(a.out_ptr.tolist())]
    readers = [sorted(set(a.use_op[x:y].tolist())) for x, y in pairwise(a.use_ptr.tolist())]
    size, pinned, producer = a.size.tolist(), a.pinned.tolist(), a.producer.tolist()
    unread = [len(ops) for ops in readers]
    held = [v for v in range(len(size)) if producer[v] >= 0]
    back = drift * float(np.mean(a.size[held])) if held else 0.0
    missing = [sum(producer[v] >= 0 for v in row) for row in inputs]
    grows = np.zeros(n)
    for i in range(n):
        kept = sum(size[v] for v in outputs[i] if readers[v] or pinned[v])
        freed = sum(size[v] for v in inputs[i] if unread[v] == 1 and not pinned[v])
        grows[i] = kept - freed + back * i
    ready = np.array([count == 0 for count in missing], np.bool_)
    order: list[int] = []
    done = bytearray(n)
    for _ in range(n):
        op = int(np.where(ready, grows, np.inf).argmin())
        ready[op] = False
        order.append(op)
        done[op] = True
        for v in inputs[op]:
            unread[v] -= 1
            if unread[v] == 1 and not pinned[v]:
                last = next(r for r in readers[v] if not done[r])
                grows[last] -= size[v]
        for v in outputs[op]:
            for reader in readers[v]:
                missing[reader] -= 1
                if missing[reader] == 0:
                    ready[reader] = True
    return order
