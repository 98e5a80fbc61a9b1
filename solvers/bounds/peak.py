"""A lower bound on the peak in any order: what no order can drop while an op runs."""

from __future__ import annotations

import numpy as np

from pebble.problem import Problem
from pebble.solvers.bounds.precedence import held_beside, precedence

LARGEST_REACH = 20_000
"""Ops up to which the bound looks at who must run before whom (n^2 bytes)."""


def peak_lower_bound(problem: Problem) -> int:
    """Bytes that every schedule of any order must have room for.

    While an op runs for the first time there are, besides its inputs, outputs and workspace: what
    ops before it have made that is pinned, and what they have made that may run only once if
    something that must come after it reads that.
    """
    graph, a = problem.graph, problem.graph.arrays
    once = ~problem.may_repeat
    stuck = [
        v
        for v in np.flatnonzero((a.producer >= 0) & (a.size > 0)).tolist()
        if a.pinned[v] or once[a.producer[v]]
    ]
    if not stuck or len(graph.ops) > LARGEST_REACH:
        return max(problem.working_set_bound, int(a.size[a.pinned].sum()))
    held = held_beside(problem, precedence(graph), stuck)
    pinned = int(a.size[a.pinned].sum())
    return max(int(held.max(initial=0)), pinned)
