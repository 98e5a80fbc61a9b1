"""The game of a training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from pebble.games.moves import Act, Move
from pebble.games.position import BLACK, EMPTY, Broken, Position, SequentialGame
from pebble.games.training.board import training_nodes
from pebble.graph import Graph


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


def training_game(graph: Graph) -> Training:
    """The rules of a training graph, for its `training_board`."""
    nodes = training_nodes(graph)
    return Training(
        op_of=tuple(op for op, _ in nodes),
        pinned=frozenset(
            node for node, (_, v) in enumerate(nodes) if v >= 0 and graph.values[v].pinned
        ),
        once=frozenset(i for i, op in enumerate(graph.ops) if not op.recomputable),
    )
