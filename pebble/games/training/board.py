"""The board of a training step: one node for each value."""

from __future__ import annotations

from pebble.games.board import Board
from pebble.graph import Graph


def training_board(graph: Graph) -> Board:
    """The board of a training graph: one node for each value that is not external.

    An op without values gets a node of size 0. The cost of an op lies on its first node, its
    workspace on its last one.
    """
    nodes = training_nodes(graph)
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


def training_nodes(graph: Graph) -> list[tuple[int, int]]:
    """(op, value) of each node of the training board; the value is -1 where an op makes none."""
    return [(i, v) for i, op in enumerate(graph.ops) for v in (op.outputs or (-1,))]
