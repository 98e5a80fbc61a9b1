"""A lower bound on the cost in any order: what one moment of every schedule forces.

When op x runs for the first time, all that must precede it has run and nothing that must follow it
has. Each value made before and read after is in memory then, or its op runs again later; an op
that runs again later reads values of which the same holds. With x's own inputs, outputs and
workspace, what is in memory fits the budget. The cheapest choice of ops to run again is a knapsack
over a closure, solved in integers; the largest of all moments is a bound on every schedule of any
order with any number of executions.
"""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np

from pebble.problem import Problem
from pebble.solver import Halt
from pebble.solvers.bounds.precedence import held_beside, precedence
from pebble.solvers.integer.cp_sat import Effort, run_cpsat
from pebble.solvers.integer.rows import TRUE, Rows, divisors

MOMENTS = 12
"""Ops whose first execution is looked at: those that must hold most."""
WORK = 2.0
"""CP-SAT's deterministic seconds for one of them."""
LARGEST = 6_000
"""Ops up to which the bound is looked for (n^2 bytes say who precedes whom)."""


def crossing_lower_bound(
    problem: Problem, *, deadline: float = float("inf"), halt: Halt | None = None
) -> int | None:
    """The largest bound of a few moments; None: no schedule of any order fits the budget.

    Parameters
    ----------
    deadline : float
        On `time.perf_counter`; no moment is begun after it.
    halt : Halt, optional
        Stops it from another thread.

    Examples
    --------
    >>> import networkx as nx
    >>> from pebble.graph import Graph
    >>> chain = nx.DiGraph([("f0", "f1"), ("f1", "f2"), ("f2", "b2"), ("f1", "b2"), ("f0", "b1")])
    >>> chain.add_edges_from([("b2", "b1")])
    >>> graph = Graph.from_networkx(chain)
    >>> graph.total_cost, [crossing_lower_bound(Problem(graph, room)) for room in (4, 3)]
    (5, [5, 6])
    """
    base, n = problem.graph.total_cost, len(problem.graph.ops)
    if not n or n > LARGEST:
        return base
    moments = _Moments(problem)
    best = base
    for op in moments.heaviest():
        if time.perf_counter() > deadline or (halt is not None and halt.called):
            break
        low = moments.bound(op, deadline, halt)
        if low is None:
            return None
        best = max(best, base + low)
    return best


class _Moments:
    def __init__(self, problem: Problem) -> None:
        self.problem, a = problem, problem.graph.arrays
        self.byte, self.tick = divisors(problem)
        self.may_repeat = problem.may_repeat.tolist()
        self.size, self.cost = a.size.tolist(), a.cost.tolist()
        self.pinned, self.producer = a.pinned.tolist(), a.producer.tolist()
        self.inputs = [
            [v for v in a.in_val[x:y].tolist() if self.producer[v] >= 0]
            for x, y in pairwise(a.in_ptr.tolist())
        ]
        self.readers = [a.use_op[x:y] for x, y in pairwise(a.use_ptr.tolist())]
        self.before = precedence(problem.graph)

    def heaviest(self) -> list[int]:
        """The ops that would have to hold most if nothing were computed again, heaviest first."""
        made = [v for v, op in enumerate(self.producer) if op >= 0 and self.size[v]]
        held = held_beside(self.problem, self.before, made)
        order = np.argsort(-held, kind="stable")[:MOMENTS]
        return [int(i) for i in order if held[i] > self.problem.budget]

    def bound(self, op: int, deadline: float, halt: Halt | None) -> int | None:
        """Least cost of the ops that run again after the first execution of `op`."""
        rows, inside = Rows(), set(self.inputs[op])
        past = np.flatnonzero(self.before[op]).tolist()
        again = {i: rows.variable() for i in past if self.may_repeat[i]}
        held: dict[int, int] = {}
        graph = self.problem.graph
        for i in past:
            for v in graph.ops[i].outputs:
                held[v] = TRUE if self.pinned[v] or v in inside else rows.variable()
        for v, literal in held.items():
            # [Constraint] What must be read later is in memory or is made again.
            if literal != TRUE and self.before[self.readers[v], op].any():
                rows.implies(TRUE, literal, again.get(self.producer[v], 0))
        for i, runs in again.items():
            for v in self.inputs[i]:
                # [Constraint] So are the inputs of what is made again.
                if held[v] != TRUE:
                    rows.implies(runs, held[v], again.get(self.producer[v], 0))
        # [Constraint] What is in memory fits, with what the op itself needs.
        room = self.problem.budget - int(self.problem.working_sets[op])
        beside = [(self.size[v] // self.byte, x) for v, x in held.items() if v not in inside]
        rows.add(beside, room // self.byte)
        costs = [(self.cost[i] // self.tick, x) for i, x in again.items() if self.cost[i]]
        left = deadline - time.perf_counter()
        outcome = run_cpsat(rows, costs, Effort(max(left, 0.1), work=WORK, relax=True), halt=halt)
        return None if outcome.impossible else outcome.bound * self.tick
