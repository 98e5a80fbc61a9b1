"""The referee: replays a schedule under the rules. Peak and cost come from nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pebble.errors import InvalidSchedule
from pebble.graph import Graph, IntArray, Phase
from pebble.problem import Problem
from pebble.schedule import Retention, Schedule, retention


@dataclass(frozen=True)
class Trace:
    """What a schedule does, step by step.

    Attributes
    ----------
    live : IntArray, shape (n_steps,)
        Bytes in memory during each step, workspace included.
    peak, peak_step : int
        The largest of `live`, and the first step that reaches it.
    cost, recomputed_cost : int
        Sum of the costs of all executions, and of all but the first of each op.
    forward_steps : int
        Steps before this index are the forward half.
    saved : tuple of int
        Values in memory when the backward half begins.
    kept : Retention
        The retention intervals behind all this.
    """

    live: IntArray = field(repr=False)
    peak: int
    peak_step: int
    cost: int
    recomputed_cost: int
    forward_steps: int
    saved: tuple[int, ...] = field(repr=False)
    kept: Retention = field(repr=False)


def simulate(problem: Problem | Graph, schedule: Schedule | Sequence[int]) -> Trace:
    """Replay a schedule.

    Peak convention: a copy is live from the step that makes it through the step of its last
    reader, both inclusive; a value that nobody reads lives in its own step only. The budget is
    not enforced here: compare it with `Trace.peak`.

    Raises
    ------
    InvalidSchedule
        If an op is unknown, missing, repeated although it may not be, or reads a value that is
        not in memory.

    Examples
    --------
    >>> import networkx as nx
    >>> from pebble.graph import Graph
    >>> g = Graph.from_networkx(nx.path_graph(3, create_using=nx.DiGraph))
    >>> simulate(g, [0, 1, 2]).peak
    2
    """
    problem = problem if isinstance(problem, Problem) else Problem(problem, budget=0)
    schedule = schedule if isinstance(schedule, Schedule) else Schedule(tuple(schedule))
    graph, a = problem.graph, problem.graph.arrays
    order = np.array(schedule.order, np.int64)
    _check_executions(problem, order)
    kept = retention(graph, schedule)
    delta = np.zeros(len(order) + 1, np.int64)
    np.add.at(delta, kept.start, a.size[kept.value])
    np.add.at(delta, kept.end + 1, -a.size[kept.value])
    live = np.cumsum(delta)[:-1] + a.workspace[order]
    peak_step = int(live.argmax()) if len(live) else 0
    cost = int(a.cost[order].sum())
    forward_steps = _forward_steps(graph, order)
    crossing = (kept.start < forward_steps) & (kept.end >= forward_steps)
    return Trace(
        live=live,
        peak=int(live[peak_step]) if len(live) else 0,
        peak_step=peak_step,
        cost=cost,
        recomputed_cost=cost - graph.total_cost,
        forward_steps=forward_steps,
        saved=tuple(np.unique(kept.value[crossing]).tolist()),
        kept=kept,
    )


def _check_executions(problem: Problem, order: IntArray) -> None:
    graph = problem.graph
    wrong = np.flatnonzero((order < 0) | (order >= len(graph.ops)))
    if len(wrong):
        step = int(wrong[0])
        raise InvalidSchedule(
            f"Step {step} runs op {int(order[step])}, but graph {graph.name!r} has ops "
            f"0 to {len(graph.ops) - 1}."
        )
    counts = np.bincount(order, minlength=len(graph.ops))
    absent = np.flatnonzero(counts == 0)
    if len(absent):
        raise InvalidSchedule(
            f"Op {graph.ops[int(absent[0])].name!r} never runs; a schedule runs every op "
            f"at least once ({len(absent)} of {len(graph.ops)} are missing)."
        )
    repeated = np.flatnonzero((counts > 1) & ~problem.may_repeat)
    if len(repeated):
        op = int(repeated[0])
        step = int(np.flatnonzero(order == op)[1])
        raise InvalidSchedule(
            f"Step {step} runs op {graph.ops[op].name!r} again, which may run only once."
        )


def _forward_steps(graph: Graph, order: IntArray) -> int:
    if graph.boundary is not None:
        return int(np.flatnonzero(order == graph.boundary)[0]) + 1
    makers = [
        i
        for i, op in enumerate(graph.ops)
        if op.phase is Phase.FORWARD and any(graph.values[v].pinned for v in op.outputs)
    ]
    if not makers:
        makers = [i for i, op in enumerate(graph.ops) if op.phase is Phase.FORWARD]
    firsts = np.full(len(graph.ops), -1, np.int64)
    firsts[order[::-1]] = np.arange(len(order))[::-1]
    return int(firsts[makers].max(initial=-1)) + 1
