"""Offloading: training schedules with a second memory level, the red-blue game with weights.

Beside executions there are stores (fast to slow memory) and loads (back). As in the core, nothing
else is written down: a read takes the most recent copy in fast memory, and a copy is freed right
after its last use, which may be a store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pebble.errors import InvalidArgument, InvalidSchedule
from pebble.games.moves import Act, Move
from pebble.graph import Graph, IntArray
from pebble.problem import Problem
from pebble.schedule import Schedule

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class OffloadTrace:
    """What an offloading schedule does.

    Attributes
    ----------
    live, slow : IntArray, shape (n_steps,)
        Bytes in fast memory (workspace included) and in slow memory during each step.
    peak, slow_peak : int
        Their largest.
    compute_cost, recomputed_cost, transfer_cost : int
        Nanoseconds of all executions, of all but the first of each op, and of all transfers.
    transferred : int
        Bytes stored and loaded.
    """

    live: IntArray = field(repr=False)
    slow: IntArray = field(repr=False)
    peak: int
    slow_peak: int
    compute_cost: int
    recomputed_cost: int
    transfer_cost: int
    transferred: int

    @property
    def cost(self) -> int:
        """Compute and transfers one after the other, in nanoseconds."""
        return self.compute_cost + self.transfer_cost


def simulate_offload(
    problem: Problem | Graph,
    schedule: Iterable[Move] | Schedule,
    *,
    bandwidth: float = 16e9,
    store_bandwidth: float | None = None,
) -> OffloadTrace:
    """Replay a schedule of executions, stores and loads.

    Conventions are those of the core's referee: a copy is live from the step that makes or loads
    it through the step of its last use; one that nobody uses lives in its own step; the first
    copy of a pinned value stays to the end. A value may be loaded after it has been stored, as
    often as one likes; it stays in slow memory until its last load. Transfers do not overlap
    with compute here, so the cost is an upper bound on what hardware with streams needs.

    Parameters
    ----------
    schedule : iterable of Move, or Schedule
        ``Move(Act.PLACE, op)``, ``Move(Act.STORE, value)``, ``Move(Act.LOAD, value)``, with
        indices of the graph.
    bandwidth, store_bandwidth : float
        Bytes per second from slow to fast memory, and the other way (default: the same).

    Raises
    ------
    InvalidSchedule
        If a step uses a value that is not where it should be, an op never runs, or one runs
        again that may not.

    Examples
    --------
    >>> from pebble.games import make_graph
    >>> graph = make_graph("trainchain:3")
    >>> simulate_offload(graph, Schedule.keep_all(graph)).peak
    4
    >>> plan = [Move(Act.PLACE, 0), Move(Act.STORE, 0), *(Move(Act.PLACE, i) for i in range(1, 5)),
    ...         Move(Act.LOAD, 0), Move(Act.PLACE, 5)]
    >>> trace = simulate_offload(graph, plan, bandwidth=1e9)
    >>> trace.peak, trace.compute_cost, trace.transfer_cost
    (3, 6, 2)
    """
    store_bandwidth = bandwidth if store_bandwidth is None else store_bandwidth
    if bandwidth <= 0 or store_bandwidth <= 0:
        raise InvalidArgument("The bandwidth must be positive, in bytes per second.")
    problem = problem if isinstance(problem, Problem) else Problem(problem, budget=0)
    if isinstance(schedule, Schedule):
        schedule = [Move(Act.PLACE, op) for op in schedule]
    replay = _Replay(problem, list(schedule))
    for step, move in enumerate(replay.moves):
        replay.take(step, move)
    replay.check_complete()
    graph, sizes = problem.graph, problem.graph.arrays.size
    live = replay.fast.profile(sizes, len(replay.moves))
    for step, move in enumerate(replay.moves):
        if move.act is Act.PLACE:
            live[step] += graph.ops[move.node].workspace
    slow = replay.slow.profile(sizes, len(replay.moves))
    compute = sum(graph.ops[m.node].cost for m in replay.moves if m.act is Act.PLACE)
    loaded = sum(int(sizes[m.node]) for m in replay.moves if m.act is Act.LOAD)
    stored = sum(int(sizes[m.node]) for m in replay.moves if m.act is Act.STORE)
    transfer = sum(
        _nanoseconds(
            int(sizes[m.node]), bandwidth if m.act is Act.LOAD else store_bandwidth
        )
        for m in replay.moves
        if m.act is not Act.PLACE
    )  # fmt: skip
    return OffloadTrace(
        live=live,
        slow=slow,
        peak=int(live.max(initial=0)),
        slow_peak=int(slow.max(initial=0)),
        compute_cost=compute,
        recomputed_cost=compute - graph.total_cost,
        transfer_cost=transfer,
        transferred=loaded + stored,
    )


def _nanoseconds(size: int, bandwidth: float) -> int:
    return -int(-(size * NANOSECONDS) // bandwidth)


def offload_of_strategy(graph: Graph, strategy: Sequence[Move]) -> tuple[Move, ...]:
    """The offloading schedule of a red-blue strategy: its removals are left out.

    For graphs where op i makes value i, as games have them.
    """
    if any(op.outputs != (i,) for i, op in enumerate(graph.ops)):
        raise InvalidArgument(f"In {graph.name!r} op i does not make just value i.")
    return tuple(move for move in strategy if move.act is not Act.REMOVE)


class _Copies:
    """Intervals of copies in one of the two memories."""

    def __init__(self) -> None:
        self.value: list[int] = []
        self.start: list[int] = []
        self.end: list[int] = []
        self.newest: dict[int, int] = {}

    def make(self, value: int, step: int, *, known: bool = True) -> None:
        if known:
            self.newest[value] = len(self.value)
        self.value.append(value)
        self.start.append(step)
        self.end.append(step)

    def use(self, value: int, step: int) -> bool:
        copy = self.newest.get(value)
        if copy is None:
            return False
        self.end[copy] = max(self.end[copy], step)
        return True

    def profile(self, sizes: IntArray, steps: int) -> IntArray:
        change = np.zeros(steps + 1, np.int64)
        weights = sizes[np.array(self.value, np.int64)]
        np.add.at(change, np.array(self.start, np.int64), weights)
        np.add.at(change, np.array(self.end, np.int64) + 1, -weights)
        return np.cumsum(change)[:-1]


class _Replay:
    def __init__(self, problem: Problem, moves: list[Move]) -> None:
        self.graph, self.moves = problem.graph, moves
        self.may_repeat = problem.may_repeat
        self.fast, self.slow = _Copies(), _Copies()
        self.ran: set[int] = set()

    def take(self, step: int, move: Move) -> None:
        if move.act is Act.PLACE:
            self._run(step, move.node)
            return
        if move.act not in (Act.STORE, Act.LOAD):
            raise InvalidSchedule(f"Step {step}, {move}: only place, store and load are known.")
        if not 0 <= move.node < len(self.graph.values):
            raise InvalidSchedule(f"Step {step}, {move}: there is no value {move.node}.")
        value = self.graph.values[move.node]
        if value.external:
            raise InvalidSchedule(f"Step {step}, {move}: {value.name!r} is external.")
        if move.act is Act.STORE:
            if not self.fast.use(move.node, step):
                raise InvalidSchedule(
                    f"Step {step} stores {value.name!r}, but no earlier step has made it."
                )
            self.slow.make(move.node, step)
        else:
            if not self.slow.use(move.node, step):
                raise InvalidSchedule(
                    f"Step {step} loads {value.name!r}, but no earlier step has stored it."
                )
            self.fast.make(move.node, step, known=not value.pinned)

    def _run(self, step: int, op: int) -> None:
        if not 0 <= op < len(self.graph.ops):
            raise InvalidSchedule(
                f"Step {step} runs op {op}, but graph {self.graph.name!r} has ops 0 to "
                f"{len(self.graph.ops) - 1}."
            )
        node = self.graph.ops[op]
        if op in self.ran and not self.may_repeat[op]:
            raise InvalidSchedule(f"Step {step} runs op {node.name!r} again, which may run once.")
        for v in node.inputs:
            value = self.graph.values[v]
            if not value.external and not self.fast.use(v, step):
                raise InvalidSchedule(
                    f"Step {step} runs op {node.name!r}, which reads value {value.name!r}, but "
                    "no earlier step has made or loaded it."
                )
        for v in node.outputs:
            duplicate = self.graph.values[v].pinned and op in self.ran
            self.fast.make(v, step, known=not duplicate)
            if self.graph.values[v].pinned and not duplicate:
                self.fast.end[-1] = len(self.moves) - 1
        self.ran.add(op)

    def check_complete(self) -> None:
        for i, op in enumerate(self.graph.ops):
            if i not in self.ran:
                raise InvalidSchedule(f"Op {op.name!r} never runs.")
