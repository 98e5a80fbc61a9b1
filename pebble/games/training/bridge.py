"""The bridge between training and games: a schedule is a black strategy, and the other way round.

A schedule of the core and a strategy of the weighted black game say the same thing: an execution
places the pebbles of the op's values, and the end of a copy removes one. On the board of a
training graph every value is a node, in the order of the ops; where each op makes one value, node
i is op i.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pebble.errors import InvalidSchedule
from pebble.games.board import Board
from pebble.games.moves import Act, Move, place, remove
from pebble.games.position import BLACK, EMPTY, Broken, Position, SequentialGame
from pebble.graph import Graph
from pebble.schedule import Schedule, retention


@dataclass(frozen=True, kw_only=True)
class Training(SequentialGame):
    """The game of a training step: weighted black, every op at least once, outputs stay.

    Made by `training_game`. The values of one op are placed one after the other; the pebble of
    a pinned value is never removed, and executing its op again makes a duplicate that weighs
    only during that execution; an op that may not repeat runs once. That the backward half
    follows the forward half is in the edges.

    Parameters
    ----------
    op_of : tuple of int
        The op of each node.
    pinned : frozenset of int
        Nodes whose pebbles stay to the end.
    once : frozenset of int
        Ops that may run only once.
    """

    weighted: bool = True
    op_of: tuple[int, ...] = field(default=(), repr=False)
    pinned: frozenset[int] = field(default=frozenset(), repr=False)
    once: frozenset[int] = field(default=frozenset(), repr=False)
    title: ClassVar[str] = "training"
    cost_name: ClassVar[str] = "ns of compute"

    def __str__(self) -> str:
        return self.title

    def moves(self, position: Position) -> dict[Act, Callable[[Move], None]]:
        """Place and remove."""
        on, seen, board = position.on, position.seen, position.board
        sizes, costs, spaces = board.sizes, board.costs, board.workspaces
        op_of = self.op_of
        last = {op: v for v, op in enumerate(op_of)}
        pending: list[int] = []  # node that must come next, and the weight of duplicates

        def put(move: Move) -> None:
            v = move[1]
            if pending and pending[0] != v:
                raise Broken(f"{position.name(pending[0])} is made by the same op and comes next")
            if not pending and v and op_of[v - 1] == op_of[v]:
                raise Broken(f"{position.name(v)} is placed together with {position.name(v - 1)}")
            duplicates = pending.pop() if pending else 0
            pending.clear()
            position.require_preds(v, "placing")
            if seen[v] and op_of[v] in self.once:
                raise Broken("this op may run only once")
            if on[v] == EMPTY:
                on[v] = BLACK
                position.used += sizes[v]
            elif v in self.pinned:
                duplicates += sizes[v]
            else:
                raise Broken("the node already carries a pebble")
            seen[v] = 1
            position.cost += costs[v]
            position.placements += 1
            position.extra = spaces[v] + duplicates
            if last[op_of[v]] != v:
                pending.extend((v + 1, duplicates))

        def take(move: Move) -> None:
            v = move[1]
            if pending:
                raise Broken(f"{position.name(pending[0])} is made by the same op and comes next")
            if on[v] == EMPTY:
                raise Broken(f"{position.name(v)} carries no pebble")
            if v in self.pinned:
                raise Broken("an output of the step stays in memory to the end")
            on[v] = EMPTY
            position.used -= sizes[v]

        return {Act.PLACE: put, Act.REMOVE: take}

    def unmet(self, position: Position) -> str | None:
        """An op that never ran."""
        for v, done in enumerate(position.seen):
            if not done:
                return f"{position.name(v)} was never computed"
        return None


def training_board(graph: Graph) -> Board:
    """The board of a training graph: one node for each value that is not external.

    An op without values gets a node of size 0. The cost of an op lies on its first node, its
    workspace on its last one.
    """
    nodes = _nodes(graph)
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    node_of: dict[int, int] = {}
    for node, (op, value) in enumerate(nodes):
        first.setdefault(op, node)
        last[op] = node
        if value >= 0:
            node_of[value] = node
    arrays = graph.arrays
    reads = [
        tuple(sorted(node_of[int(v)] for v in arrays.in_val[start:end]))
        for start, end in zip(arrays.in_ptr, arrays.in_ptr[1:])
    ]
    single = all(len(op.outputs) <= 1 for op in graph.ops)
    pinned = tuple(node_of[v] for v in node_of if graph.values[v].pinned)
    read = {u for row in reads for u in row}
    return Board(
        names=tuple(
            graph.ops[op].name if single or value < 0 else graph.values[value].name
            for op, value in nodes
        ),
        preds=tuple(reads[op] for op, _ in nodes),
        targets=pinned or tuple(node for node in range(len(nodes)) if node not in read),
        sizes=tuple(0 if value < 0 else graph.values[value].size for _, value in nodes),
        costs=tuple(
            graph.ops[op].cost if first[op] == node else 0 for node, (op, _) in enumerate(nodes)
        ),
        workspaces=tuple(
            graph.ops[op].workspace if last[op] == node else 0 for node, (op, _) in enumerate(nodes)
        ),
        name=graph.name,
    )


def training_game(graph: Graph) -> Training:
    """The rules of a training graph, for its `training_board`."""
    nodes = _nodes(graph)
    return Training(
        op_of=tuple(op for op, _ in nodes),
        pinned=frozenset(
            node for node, (_, v) in enumerate(nodes) if v >= 0 and graph.values[v].pinned
        ),
        once=frozenset(i for i, op in enumerate(graph.ops) if not op.recomputable),
    )


def strategy_of_schedule(graph: Graph, schedule: Schedule | Sequence[int]) -> tuple[Move, ...]:
    """The moves of a training schedule; its play has the referee's peak and cost.

    Raises
    ------
    InvalidSchedule
        If a step reads what no earlier step has made.

    Examples
    --------
    Two dense layers: keeping all seven values takes seven pebbles, three are enough when each
    input is placed when it is needed and removed when it is used.

    >>> import networkx as nx
    >>> from pebble.games import Black, least_pebbles, play
    >>> net = nx.DiGraph([("x", "h"), ("W1", "h"), ("h", "y"), ("W2", "y"), ("y", "loss"),
    ...                   ("t", "loss")])
    >>> len(net), least_pebbles(net, Black()).pebbles
    (7, 3)
    >>> graph = Graph.from_networkx(net)
    >>> schedule = schedule_of_strategy(graph, least_pebbles(net, Black()).strategy)
    >>> moves = schedule.to_strategy(graph)
    >>> play(training_game(graph), training_board(graph), moves).peak
    3
    """
    order = tuple(schedule)
    kept = retention(graph, order)
    node_of = {value: node for node, (_, value) in enumerate(_nodes(graph)) if value >= 0}
    made: list[list[int]] = [[] for _ in graph.ops]
    empty: list[list[int]] = [[] for _ in graph.ops]  # nodes of ops that make nothing
    for node, (op, value) in enumerate(_nodes(graph)):
        made[op].append(node)
        if value < 0:
            empty[op].append(node)
    gone: list[list[int]] = [[] for _ in order]
    pinned = graph.arrays.pinned
    for value, end in zip(kept.value.tolist(), kept.end.tolist()):
        if not pinned[value]:
            gone[end].append(node_of[value])
    moves: list[Move] = []
    for step, op in enumerate(order):
        moves += map(place, made[op])
        moves += map(remove, [*empty[op], *gone[step]])
    return tuple(moves)


def schedule_of_strategy(graph: Graph, strategy: Iterable[Move]) -> Schedule:
    """The schedule of a black strategy on the board of a graph (or its training board).

    Placements and slides become executions; the removals are not kept, since a schedule frees
    each copy after its last reader, which is never later.

    Raises
    ------
    InvalidSchedule
        If a move is none of a black game.
    """
    nodes = _nodes(graph)
    order: list[int] = []
    for number, move in enumerate(strategy):
        if move.act in (Act.PLACE, Act.SLIDE):
            op = nodes[move.node][0]
            if move.node == 0 or nodes[move.node - 1][0] != op:
                order.append(op)
        elif move.act is not Act.REMOVE:
            raise InvalidSchedule(
                f"Move {number}, {move}, is none of a black game; a schedule places and removes."
            )
    return Schedule(tuple(order))


def _nodes(graph: Graph) -> list[tuple[int, int]]:
    """(op, value) of each node of the training board; value -1 where an op makes none."""
    return [(i, v) for i, op in enumerate(graph.ops) for v in (op.outputs or (-1,))]
