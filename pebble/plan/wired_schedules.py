"""Schedules of one shape, tried on another: graphs that differ in nothing but sizes."""

from __future__ import annotations

import hashlib
import json

from pebble.budget import Footprint
from pebble.graph import Graph
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule

MOST_SCHEDULES = 32
"""Of one wiring that are remembered; a replay takes milliseconds."""


class WiredSchedules:
    """What was found for graphs so far, by what is computed from what whatever the sizes.

    Examples
    --------
    >>> from pebble.graph import Op, Value
    >>> def chain(size):
    ...     return Graph([Op("a", 1, (), (0,)), Op("b", 1, (0,), (1,))],
    ...                  [Value("x", size), Value("y", 1)])
    >>> known = WiredSchedules()
    >>> known.learn(chain(4), Schedule((0, 1)))
    >>> known.cheapest(Problem(chain(8), 9)), known.cheapest(Problem(chain(8), 8))
    (Schedule(order=(0, 1)), None)
    """

    def __init__(self) -> None:
        self._orders: dict[str, list[tuple[int, ...]]] = {}
        self._enough: set[str] = set()

    def learn(self, graph: Graph, schedule: Schedule) -> None:
        """Remember a schedule of a graph; the oldest are forgotten."""
        orders = self._orders.setdefault(wiring(graph), [])
        if schedule.order in orders:
            orders.remove(schedule.order)
        orders.append(schedule.order)
        del orders[:-MOST_SCHEDULES]

    def settle(self, graph: Graph) -> None:
        """Of this wiring there are schedules enough: no other is looked for where one fits."""
        self._enough.add(wiring(graph))

    def is_settled(self, graph: Graph) -> bool:
        """Whether the schedules of a wiring are enough."""
        return wiring(graph) in self._enough

    def cheapest(self, problem: Problem) -> Schedule | None:
        """The cheapest of those known for a wiring that is within the budget."""
        found: tuple[int, Schedule] | None = None
        for order in self._orders.get(wiring(problem.graph), ()):
            schedule = Schedule(order)
            trace = simulate(problem, schedule)
            if trace.peak <= problem.budget and (found is None or trace.cost < found[0]):
                found = trace.cost, schedule
        return None if found is None else found[1]

    def within(self, step: Footprint, budget_bytes: int) -> Schedule | None:
        """The same for a step and a budget for all of it."""
        if not step.resident.admits(budget_bytes):
            return None
        return self.cheapest(step.problem(budget_bytes))


def wiring(graph: Graph) -> str:
    """Hash of what is computed from what, in which order; no sizes, shapes or costs.

    Arguments of ops are left out: sizes are among them, and a schedule holds whatever they are.
    """
    parts = [
        [[op.kind.partition("(")[0], op.inputs, op.outputs, op.recomputable] for op in graph.ops],
        [[value.external, value.pinned] for value in graph.values],
        graph.boundary,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
