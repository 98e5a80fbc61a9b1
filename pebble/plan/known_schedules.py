"""What earlier calls of this process have found: schedules, and bounds on what they cost.

More budget never costs more, also in separate calls: what fits a smaller budget is a candidate for
every larger one, and what is known to fit is never refused.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pebble.answers import Result, Status
from pebble.graph import Graph
from pebble.problem import Objective, Problem
from pebble.schedule import FREE_ORDER, Schedule

MOST_GRAPHS = 16
"""Of those used last."""
MOST_EACH = 64
"""Schedules of a graph, and bounds for it."""


@dataclass(frozen=True)
class KnownSchedule:
    """A schedule, who found it, and the peak of the graph's values by it in bytes."""

    schedule_ops: NDArray[np.int32] = field(repr=False)
    solver: str
    peak_bytes: int

    @property
    def schedule(self) -> Schedule:
        """The schedule itself."""
        return Schedule(tuple(self.schedule_ops.tolist()))

    def cost(self, graph: Graph) -> int:
        """What it costs on a graph."""
        return int(graph.arrays.cost[self.schedule_ops].sum())


@dataclass
class _OfGraph:
    """What is known of a graph; peaks do not depend on costs, bounds do."""

    schedules: list[KnownSchedule] = field(default_factory=list)
    bounds: dict[str, dict[int, int]] = field(default_factory=dict)
    chunks: dict[int, list[tuple[int, int]]] = field(default_factory=dict)


class KnownSchedules:
    """What is known of the graphs planned last."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[str, _OfGraph] = OrderedDict()
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Know nothing."""
        with self._lock:
            self._graphs.clear()

    def add(self, graph: Graph, schedule: Schedule, solver: str, peak_bytes: int) -> None:
        """Know a schedule, unless one known already is as lean and as cheap."""
        new = KnownSchedule(np.array(schedule.order, np.int32), solver, peak_bytes)
        with self._lock:
            known = self._of(graph)
            if any(_as_good(old, new, graph) for old in known.schedules):
                return
            rest = [old for old in known.schedules if not _as_good(new, old, graph)]
            known.schedules = sorted([*rest, new], key=lambda one: one.peak_bytes)
            if len(known.schedules) > MOST_EACH:
                del known.schedules[_least_missed(known.schedules)]

    def add_result(self, result: Result) -> None:
        """Know the schedule of a result, and a bound that it proves for any order."""
        problem = result.problem
        if result.schedule is not None and result.trace is not None:
            self.add(problem.graph, result.schedule, result.solver, result.trace.peak)
        if result.solver != "auto":  # its proofs are ours
            return
        if result.scope != FREE_ORDER or problem.objective is not Objective.COST:
            return
        with self._lock:
            bounds = self._of(problem.graph).bounds.setdefault(_costs(problem.graph), {})
            bounds[problem.budget] = max(result.lower_bound, bounds.get(problem.budget, 0))
            if len(bounds) > MOST_EACH:
                del bounds[min(bounds, key=lambda budget: bounds[budget])]

    def add_chunks(self, whole: Graph, chunks: int, peak_bytes: int, cost: int) -> None:
        """Know a peak and a cost of the loss of a graph in so many chunks."""
        with self._lock:
            found = self._of(whole).chunks.setdefault(chunks, [])
            found.append((peak_bytes, cost))
            del found[:-MOST_EACH]

    def chunks_within(self, whole: Graph, room_bytes: int) -> dict[int, int]:
        """Into how many chunks the loss was split where that fitted, and the least cost of each."""
        with self._lock:
            return {
                chunks: min(cost for peak, cost in found if peak <= room_bytes)
                for chunks, found in self._of(whole).chunks.items()
                if any(peak <= room_bytes for peak, _ in found)
            }

    def cheapest(self, problem: Problem) -> KnownSchedule | None:
        """The cheapest schedule known that fits the budget of a problem."""
        with self._lock:
            fit = [
                one for one in self._of(problem.graph).schedules if one.peak_bytes <= problem.budget
            ]
        return min(fit, key=lambda one: (one.cost(problem.graph), one.peak_bytes), default=None)

    def leanest(self, graph: Graph) -> KnownSchedule | None:
        """The schedule of least peak known for a graph."""
        with self._lock:
            return next(iter(self._of(graph).schedules), None)

    def with_bound(self, result: Result) -> Result:
        """A result with the best bound known: one for a larger budget holds for this one too."""
        problem = result.problem
        with self._lock:
            bounds = self._of(problem.graph).bounds.get(_costs(problem.graph), {})
            larger = [bound for budget, bound in bounds.items() if budget >= problem.budget]
        bound = max(larger, default=0)
        if result.scope != FREE_ORDER or bound <= result.lower_bound:
            return result
        met = result.objective is not None and result.objective <= bound
        status = Status.OPTIMAL if met else result.status
        return replace(result, lower_bound=bound, status=status)

    def _of(self, graph: Graph) -> _OfGraph:
        key = _sizes(graph)
        known = self._graphs.setdefault(key, _OfGraph())
        self._graphs.move_to_end(key)
        while len(self._graphs) > MOST_GRAPHS:
            self._graphs.popitem(last=False)
        return known


KNOWN = KnownSchedules()
"""Of this process."""


def _as_good(one: KnownSchedule, other: KnownSchedule, graph: Graph) -> bool:
    return one.peak_bytes <= other.peak_bytes and one.cost(graph) <= other.cost(graph)


def _least_missed(schedules: list[KnownSchedule]) -> int:
    """The index of a schedule next to whose peak another's is; the leanest and last stay."""
    peaks = [one.peak_bytes for one in schedules]
    return min(range(1, len(peaks) - 1), key=lambda at: peaks[at] - peaks[at - 1])


def _sizes(graph: Graph) -> str:
    """What decides which schedules there are and their peaks."""
    arrays = graph.arrays
    measured = arrays.workspace.tobytes() + arrays.size.tobytes()
    return graph.fingerprint + hashlib.sha256(measured).hexdigest()[:32]


def _costs(graph: Graph) -> str:
    return hashlib.sha256(graph.arrays.cost.tobytes()).hexdigest()[:32]
