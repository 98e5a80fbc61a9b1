"""The red-blue pebble game."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pebble.errors import InvalidArgument
from pebble.games.board import Board
from pebble.games.moves import Act, Move
from pebble.games.position import BLACK, Broken, Position, SequentialGame


@dataclass(frozen=True, kw_only=True)
class RedBlue(SequentialGame):
    """The red-blue game: a small fast memory (red), a large slow one (blue), and their traffic.

    Parameters
    ----------
    recompute : bool
        Whether a node may be computed more than once.
    blue_inputs : bool
        Whether sources lie in slow memory at the start and must be loaded; else they are
        computed like any node.
    compute : int
        Cost of a computation (times the op's cost if weighted) beside the traffic.
    load, store : int
        Cost of a transfer (times the value's size if weighted).

    Notes
    -----
    Hong and Kung (1981). Blue pebbles are never in the way, so there is no move to remove one.
    """

    recompute: bool = True
    blue_inputs: bool = True
    compute: int = 0
    load: int = 1
    store: int = 1
    title: ClassVar[str] = "red-blue"
    cost_name: ClassVar[str] = "transfers"

    def __post_init__(self) -> None:
        for name in ("compute", "load", "store"):
            if getattr(self, name) < 0:
                raise InvalidArgument(f"The cost {name!r} is negative.")

    def __str__(self) -> str:
        return f"{super().__str__()}/{'recompute' if self.recompute else 'oneshot'}"

    def start(self, board: Board) -> Position:
        """Sources in slow memory."""
        position = Position(board, self)
        if self.blue_inputs:
            for v in board.sources:
                position.blue[v] = 1
        return position

    def moves(self, position: Position) -> dict[Act, Callable[[Move], None]]:
        """Compute and forget in fast memory; load and store between the two."""
        on, blue, sizes = position.on, position.blue, position.sizes

        def enter(v: int) -> None:
            if on[v]:
                raise Broken("the node already carries a red pebble")
            position.put(v, BLACK)

        def place(move: Move) -> None:
            v = move[1]
            if not position.preds[v] and self.blue_inputs:
                raise Broken("an input is loaded, not computed")
            position.require_preds(v, "computing")
            if not self.recompute:
                position.require_new(v, "computed")
            enter(v)
            position.seen[v] = 1
            position.placements += 1
            position.cost += self.compute * position.costs[v]

        def remove(move: Move) -> None:
            position.take(move[1], BLACK)

        def transfer(v: int, price: int) -> None:
            position.io += 1
            position.cost += price * sizes[v]

        def load(move: Move) -> None:
            v = move[1]
            if not blue[v]:
                raise Broken(f"{position.name(v)} is not in slow memory")
            enter(v)
            transfer(v, self.load)

        def store(move: Move) -> None:
            v = move[1]
            if not on[v]:
                raise Broken(f"{position.name(v)} is not in fast memory")
            blue[v] = 1
            transfer(v, self.store)

        return {Act.PLACE: place, Act.REMOVE: remove, Act.LOAD: load, Act.STORE: store}

    def unmet(self, position: Position) -> str | None:
        """A target that is not in slow memory."""
        for t in position.board.targets:
            if not position.blue[t]:
                return f"target {position.name(t)} is not in slow memory at the end"
        return None
