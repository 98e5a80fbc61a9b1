"""Offloading: training schedules with a second memory level, the red-blue game with weights.

Beside executions there are stores (fast to slow memory) and loads (back). As in the core, nothing
else is written down: a read takes the most recent copy in fast memory, and a copy is freed right
after its last use, which may be a store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pebble.errors import InvalidArgument
from pebble.games.moves import Act, Move
from pebble.games.training.offload_replay import OffloadReplay
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
    replay = OffloadReplay(problem, list(schedule))
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
