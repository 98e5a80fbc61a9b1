"""A schedule is a black strategy, and the other way round.

A schedule of the core and a strategy of the weighted black game say the same thing: an execution
places the pebbles of the op's values, and the end of a copy removes one. On the board of a
training graph every value is a node, in the order of the ops; where each op makes one value, node
i is op i.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pebble.errors import InvalidSchedule
from pebble.games.moves import Act, Move, place, remove
from pebble.games.training.board import training_nodes
from pebble.graph import Graph
from pebble.schedule import Schedule, retention


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
    >>> from pebble.games import Black, least_pebbles, play, training_board, training_game
    >>> net = nx.DiGraph([("x", "h"), ("W1", "h"), ("h", "y"), ("W2", "y"), ("y", "loss"),
    ...                   ("t", "loss")])
    >>> len(net), least_pebbles(net, Black()).pebbles
    (7, 3)
    >>> graph = Graph.from_networkx(net)
    >>> schedule = schedule_of_strategy(graph, least_pebbles(net, Black()).strategy)
    >>> moves = strategy_of_schedule(graph, schedule)
    >>> play(training_game(graph), training_board(graph), moves).peak
    3
    """
    order = tuple(schedule)
    kept = retention(graph, order)
    node_of = {value: node for node, (_, value) in enumerate(training_nodes(graph)) if value >= 0}
    made: list[list[int]] = [[] for _ in graph.ops]
    empty: list[list[int]] = [[] for _ in graph.ops]  # nodes of ops that make nothing
    for node, (op, value) in enumerate(training_nodes(graph)):
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
    nodes = training_nodes(graph)
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
