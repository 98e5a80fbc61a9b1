"""The black pebble game."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pebble.games.moves import Act, Move
from pebble.games.position import BLACK, EMPTY, Broken, Position
from pebble.games.rules.free_inputs import FreeInputsGame
from pebble.games.rules.goals import unseen


@dataclass(frozen=True, kw_only=True)
class Black(FreeInputsGame):
    """The black pebble game: place when the predecessors are pebbled, remove any time.

    Parameters
    ----------
    slide : bool
        Whether a pebble may slide from a predecessor onto the node.
    recompute : bool
        Whether a node may be placed more than once (False: register allocation).
    hold : bool
        Whether all targets must be pebbled together at the end; else each at some time.
    free_inputs : bool
        Whether sources are always there and need no pebble.

    Notes
    -----
    Paterson and Hewitt (1970), Sethi (1975). Time is the number of placements.
    """

    slide: bool = False
    recompute: bool = True
    hold: bool = False
    title: ClassVar[str] = "black"
    cost_name: ClassVar[str] = "placements"

    def __str__(self) -> str:
        if self.weighted and not (self.slide or self.hold):
            return f"black-weighted/{'recompute' if self.recompute else 'oneshot'}"
        return "/".join([
            super().__str__(),
            "slide" if self.slide else "noslide",
            "recompute" if self.recompute else "oneshot",
            "final" if self.hold else "visit",
        ])  # fmt: skip

    def moves(self, position: Position) -> dict[Act, Callable[[Move], None]]:
        """Place, remove, and slide where it is allowed."""
        on, preds, spaces = position.on, position.preds, position.workspaces

        def compute(v: int) -> None:
            position.require_empty(v)
            position.require_preds(v, "placing")
            if not self.recompute:
                position.require_new(v, "placed")
            position.compute(v)

        def place(move: Move) -> None:
            v = move[1]
            compute(v)
            position.put(v, BLACK)
            if spaces is not None:
                position.extra = spaces[v]

        def remove(move: Move) -> None:
            position.take(move[1], BLACK)

        def slide(move: Move) -> None:
            _, v, u = move
            if not self.slide:
                raise Broken("sliding is not allowed in this game")
            if u not in preds[v]:
                raise Broken("a pebble slides only from a predecessor")
            if on[u] == BLACK:
                compute(v)
            position.take(u, BLACK)
            position.put(v, BLACK)

        return {Act.PLACE: place, Act.REMOVE: remove, Act.SLIDE: slide}

    def unmet(self, position: Position) -> str | None:
        """A target never pebbled, or not held at the end."""
        if not self.hold:
            return unseen(position)
        for t in position.board.targets:
            if position.on[t] == EMPTY:
                return f"target {position.name(t)} has no pebble at the end"
        return None
