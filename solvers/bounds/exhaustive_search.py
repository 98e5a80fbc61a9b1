"""The exact optimum in any order, by looking at every position of a small graph."""

from __future__ import annotations

import time
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

from pebble.problem import Problem
from pebble.schedule import Schedule
from pebble.solver import Answer

Position = tuple[int, int]
"""Ops that have run, and values in memory, as bits."""


def exhaust(
    problem: Problem, *, positions: int = 40_000, deadline: float = float("inf")
) -> Answer | None:
    """The cheapest schedule of any order, proved; or None if it gives up.

    A shortest-path search: a move runs an op whose inputs are in memory, if its working set fits
    beside the rest, or drops a value. Only what runs again costs.

    Parameters
    ----------
    positions : int
        It gives up after so many.
    deadline : float
        On `time.perf_counter`; it gives up then.

    Examples
    --------
    >>> import networkx as nx
    >>> from pebble.graph import Graph
    >>> chain = Graph.from_networkx(nx.path_graph(4, create_using=nx.DiGraph))
    >>> exhaust(Problem(chain, 2)).schedule.order
    (0, 1, 2, 3)
    """
    moves, base = _Moves(problem), problem.graph.total_cost
    begin: Position = (0, 0)
    known = {begin: 0}
    came: dict[Position, tuple[Position, int]] = {}
    queue = [(0, 0, 0, begin)]
    settled: set[Position] = set()
    while queue:
        spent, _, _, at = heappop(queue)
        if at in settled:
            continue
        settled.add(at)
        if at[0] == moves.all:
            return Answer(Schedule(_path(came, at)), base + spent)
        if len(settled) > positions or time.perf_counter() > deadline:
            return None
        for then, cost, op in moves.of(at):
            total = spent + cost
            if total < known.get(then, total + 1):
                known[then] = total
                came[then] = (at, op)
                heappush(queue, (total, -then[0].bit_count(), len(known), then))
    return Answer(None, infeasible=True, message="Every order was tried; none fits the budget.")


def _path(came: dict[Position, tuple[Position, int]], at: Position) -> tuple[int, ...]:
    order = []
    while at in came:
        at, op = came[at]
        if op >= 0:
            order.append(op)
    return tuple(reversed(order))


@dataclass(frozen=True)
class _OpMasks:
    inputs: int
    outputs: int
    own: int  # bytes that only this step needs
    cost: int
    repeat: bool


class _Moves:
    def __init__(self, problem: Problem) -> None:
        a, may = problem.graph.arrays, problem.may_repeat.tolist()
        self.budget, self.all = problem.budget, (1 << len(may)) - 1
        self.size, self.pinned = a.size.tolist(), _bits(a.pinned.nonzero()[0].tolist())
        internal = _bits((a.producer >= 0).nonzero()[0].tolist())
        self.ops = [
            _OpMasks(_bits(reads) & internal, _bits(makes), workspace, cost, repeat)
            for reads, makes, workspace, cost, repeat in zip(
                (a.in_val[x:y].tolist() for x, y in pairwise(a.in_ptr.tolist())),
                (a.out_val[x:y].tolist() for x, y in pairwise(a.out_ptr.tolist())),
                a.workspace.tolist(),
                a.cost.tolist(),
                may,
            )
        ]

    def bytes(self, values: int) -> int:
        """Size of a set of values."""
        total = 0
        while values:
            low = values & -values
            total += self.size[low.bit_length() - 1]
            values ^= low
        return total

    def of(self, at: Position) -> list[tuple[Position, int, int]]:
        """(position, cost, op or -1) after each move."""
        done, live = at
        found, held = [], self.bytes(live)
        for i, op in enumerate(self.ops):
            bit = 1 << i
            again = bool(done & bit)
            if op.inputs & ~live or (again and (not op.repeat or not op.outputs & ~live)):
                continue
            # A pinned value made again is beside its first copy for this step.
            beside = self.bytes(op.outputs & self.pinned) if again else 0
            need = held + self.bytes(op.outputs & ~live) + beside + op.own
            if need <= self.budget:
                found.append(((done | bit, live | op.outputs), op.cost if again else 0, i))
        loose = live & ~self.pinned
        while loose:
            low = loose & -loose
            loose ^= low
            if self.size[low.bit_length() - 1]:
                found.append(((done, live & ~low), 0, -1))
        return found


def _bits(numbers: list[int]) -> int:
    return sum(1 << k for k in numbers)
