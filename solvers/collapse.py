"""A smaller problem with the same good schedules: ops that belong together become one.

Two merges, repeated until nothing changes. An op that alone reads everything its one producer
makes, and makes no more bytes than it reads, runs right after that producer: whoever waits with it
holds more. An op of no cost that one op alone reads, and that reads no more bytes than it makes,
runs right before that reader. A merged op has the workspace that the run of its members needs with
all inputs and outputs of the whole beside it, so a schedule's peak on the small graph is never
below its peak on the original one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pebble.graph import Graph, GraphArrays, Op
from pebble.problem import Problem
from pebble.schedule import Schedule

PASSES = 12
"""Merges of disjoint pairs in a row; each pass may double the length of a merged run."""


@dataclass(frozen=True)
class Collapsed:
    """A smaller problem and the way back.

    Attributes
    ----------
    problem : Problem
        The small one, with the budget of the original.
    members : tuple of tuple of int
        For each small op the original ops that it runs, in order.
    """

    problem: Problem
    members: tuple[tuple[int, ...], ...]

    def expand(self, schedule: Schedule) -> Schedule:
        """The schedule on the original graph: same cost, and a peak that is no higher."""
        return Schedule(tuple(op for small in schedule for op in self.members[small]))

    def shrink(self, schedule: Schedule) -> Schedule:
        """A schedule of the original graph on the small one: each op where its last member ran."""
        small = {group[-1]: i for i, group in enumerate(self.members)}
        return Schedule(tuple(small[op] for op in schedule if op in small))


def collapse(problem: Problem) -> Collapsed:
    """Merge what belongs together.

    Examples
    --------
    >>> import networkx as nx
    >>> graph = Graph.from_networkx(nx.path_graph(6, create_using=nx.DiGraph))
    >>> small = collapse(Problem(graph, 3))
    >>> len(small.problem.graph.ops), small.expand(Schedule((0,))).order
    (1, (0, 1, 2, 3, 4, 5))
    """
    limit = max(problem.budget, problem.working_set_bound)
    graph = problem.graph
    members: list[tuple[int, ...]] = [(i,) for i in range(len(graph.ops))]
    for _ in range(PASSES):
        current = replace(problem, graph=graph)
        pairs = _pairs(current, limit)
        if not pairs:
            break
        graph, members = _merge(graph, members, pairs)
    return Collapsed(replace(problem, graph=graph), tuple(members))


def _pairs(problem: Problem, limit: int) -> list[tuple[int, int, bool]]:
    """Disjoint (first, second, at the place of the first) to be merged into one."""
    graph, a, may_repeat = problem.graph, problem.graph.arrays, problem.may_repeat
    used: set[int] = set()
    pairs = []
    for op in range(len(graph.ops)):
        for first, second, early in (_with_producer(a, op), _with_reader(a, op)):
            if first < 0 or first in used or second in used:
                continue
            if graph.boundary in (first, second) or may_repeat[first] != may_repeat[second]:
                continue
            if graph.ops[first].phase is not graph.ops[second].phase:
                continue
            merged = _merged(graph, first, second)
            sizes = sum(int(a.size[v]) for v in {*merged.inputs, *merged.outputs})
            if sizes + merged.workspace <= limit:
                used |= {first, second}
                pairs.append((first, second, early))
    return pairs


def _with_producer(a: GraphArrays, op: int) -> tuple[int, int, bool]:
    """The producer that `op` may follow at once: it reads all that one makes, and shrinks it."""
    reads = a.in_val[a.in_ptr[op] : a.in_ptr[op + 1]]
    makers = set(a.producer[reads].tolist())
    if len(makers) != 1:
        return -1, -1, True
    maker = makers.pop()
    made = a.out_val[a.out_ptr[maker] : a.out_ptr[maker + 1]]
    alone = _only_reader(a, made.tolist()) == op and not a.pinned[made].any()
    out = a.out_val[a.out_ptr[op] : a.out_ptr[op + 1]]
    if alone and a.size[out].sum() <= a.size[made].sum():
        return maker, op, True
    return -1, -1, True


def _with_reader(a: GraphArrays, op: int) -> tuple[int, int, bool]:
    """The reader that `op`, which costs nothing, may run right before."""
    made = a.out_val[a.out_ptr[op] : a.out_ptr[op + 1]]
    if a.cost[op] or not len(made) or a.pinned[made].any():
        return -1, -1, False
    reader = _only_reader(a, made.tolist())
    reads = a.in_val[a.in_ptr[op] : a.in_ptr[op + 1]]
    if reader < 0 or a.size[reads].sum() > a.size[made].sum():
        return -1, -1, False
    return op, reader, False


def _only_reader(a: GraphArrays, values: list[int]) -> int:
    """The op that alone reads these values, or -1."""
    readers = {op for v in values for op in a.use_op[a.use_ptr[v] : a.use_ptr[v + 1]].tolist()}
    return readers.pop() if len(readers) == 1 else -1


def _merged(graph: Graph, first: int, second: int) -> Op:
    """Both ops as one; what only the second reads of the first is gone."""
    one, two = graph.ops[first], graph.ops[second]
    inputs = tuple(dict.fromkeys((*one.inputs, *(v for v in two.inputs if v not in one.outputs))))
    between = sum(graph.values[v].size for v in one.outputs)
    makes = sum(graph.values[v].size for v in two.outputs)
    return replace(
        two,
        name=f"{one.name}+{two.name}",
        cost=one.cost + two.cost,
        inputs=inputs,
        workspace=max(between + one.workspace - makes, between + two.workspace, 0),
    )


def _merge(
    graph: Graph, members: list[tuple[int, ...]], pairs: list[tuple[int, int, bool]]
) -> tuple[Graph, list[tuple[int, ...]]]:
    place = {(first if early else second): (first, second) for first, second, early in pairs}
    gone = {(second if early else first) for first, second, early in pairs}
    inner = {v for first, _, _ in pairs for v in graph.ops[first].outputs}
    values = [v for v in range(len(graph.values)) if v not in inner]
    index = {v: i for i, v in enumerate(values)}
    ops: list[Op] = []
    groups: list[tuple[int, ...]] = []
    boundary = None
    for i, op in enumerate(graph.ops):
        if i in gone:
            continue
        if i == graph.boundary:
            boundary = len(ops)
        if i in place:
            first, second = place[i]
            op = _merged(graph, first, second)
            groups.append(members[first] + members[second])
        else:
            groups.append(members[i])
        wired = replace(
            op,
            inputs=tuple(index[v] for v in op.inputs),
            outputs=tuple(index[v] for v in op.outputs),
        )
        ops.append(wired)
    kept = [graph.values[v] for v in values]
    return Graph(ops, kept, name=graph.name, boundary=boundary), groups
