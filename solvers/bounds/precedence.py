"""Who must run before whom, and what is in memory beside an op that runs for the first time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pebble.graph import Graph, IntArray
from pebble.problem import Problem


def precedence(graph: Graph) -> NDArray[np.bool_]:
    """Row i: the ops that must run before op i; shape (n_ops, n_ops)."""
    a, n = graph.arrays, len(graph.ops)
    before = np.zeros((n, n), np.bool_)
    for i in range(n):
        for maker in set(a.producer[a.in_val[a.in_ptr[i] : a.in_ptr[i + 1]]].tolist()):
            before[i] |= before[maker]
            before[i, maker] = True
    return before


def ancestors(graph: Graph, x: int) -> NDArray[np.bool_]:
    """Ops that must run before op x, shape (n_ops,); a row of `precedence` for large graphs.

    Examples
    --------
    >>> import networkx as nx
    >>> graph = Graph.from_networkx(nx.path_graph(4, create_using=nx.DiGraph))
    >>> ancestors(graph, 2).tolist(), descendants(graph, 2).tolist()
    ([True, True, False, False], [False, False, False, True])
    """
    a = graph.arrays
    producer = a.producer.tolist()
    reads = [a.in_val[i:j].tolist() for i, j in pairwise(a.in_ptr.tolist())]
    return _reached(graph, x, lambda i: [producer[v] for v in reads[i]])


def descendants(graph: Graph, x: int) -> NDArray[np.bool_]:
    """Ops that must run after op x, shape (n_ops,); a column of `precedence` for large graphs."""
    a = graph.arrays
    readers = [a.use_op[i:j].tolist() for i, j in pairwise(a.use_ptr.tolist())]
    makes = [a.out_val[i:j].tolist() for i, j in pairwise(a.out_ptr.tolist())]
    return _reached(graph, x, lambda i: [reader for v in makes[i] for reader in readers[v]])


def _reached(graph: Graph, x: int, following: Callable[[int], list[int]]) -> NDArray[np.bool_]:
    found = np.zeros(len(graph.ops), np.bool_)
    stack = [x]
    while stack:
        for i in following(stack.pop()):
            if not found[i]:
                found[i] = True
                stack.append(i)
    return found


def held_beside(problem: Problem, before: NDArray[np.bool_], values: Iterable[int]) -> IntArray:
    """Bytes in memory while each op runs for the first time, shape (n_ops,).

    Its working set, and what is made before it and read after it or pinned.

    Parameters
    ----------
    problem : Problem
    before : bool array, shape (n_ops, n_ops)
        The `precedence` of its graph.
    values : iterable of int
        Values that are not made again; none of them external.
    """
    a = problem.graph.arrays
    held = problem.working_sets.astype(np.int64)
    for v in values:
        readers = a.use_op[a.use_ptr[v] : a.use_ptr[v + 1]]
        crossed = before[:, a.producer[v]].copy()
        if not a.pinned[v]:
            crossed &= before[readers].any(axis=0)
        crossed[readers] = False  # in their working sets already
        held[crossed] += a.size[v]
    return held
