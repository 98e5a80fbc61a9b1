"""The black-white pebble game."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pebble.games.moves import Act, Move
from pebble.games.position import BLACK, WHITE, Position, SequentialGame
from pebble.games.rules.goals import not_exactly_targets, unseen


@dataclass(frozen=True, kw_only=True)
class BlackWhite(SequentialGame):
    """The black-white game: white pebbles are guesses that must be proved before they go.

    Parameters
    ----------
    hold : bool
        Whether the board ends with black pebbles on exactly the targets; else every target is
        pebbled at some time and the board ends empty.

    Notes
    -----
    Cook and Sethi (1976). Every placement and every removal is a move.
    """

    hold: bool = False
    title: ClassVar[str] = "black-white"

    def __str__(self) -> str:
        return f"{super().__str__()}/{'persistent' if self.hold else 'visit'}"

    def moves(self, position: Position) -> dict[Act, Callable[[Move], None]]:
        """Place and remove, black and white."""

        def put(kind: int) -> Callable[[Move], None]:
            def act(move: Move) -> None:
                v = move[1]
                position.require_empty(v)
                if kind == BLACK:
                    position.require_preds(v, "placing")
                    position.placements += 1
                position.seen[v] = 1
                position.put(v, kind)
                position.cost += position.costs[v]

            return act

        def take(kind: int) -> Callable[[Move], None]:
            def act(move: Move) -> None:
                v = move[1]
                position.take(v, kind)
                if kind == WHITE:
                    position.require_preds(v, "removing a white pebble")
                position.cost += position.costs[v]

            return act

        return {
            Act.PLACE: put(BLACK), Act.REMOVE: take(BLACK),
            Act.WHITE: put(WHITE), Act.LIFT: take(WHITE),
        }  # fmt: skip

    def unmet(self, position: Position) -> str | None:
        """A target never pebbled, or a pebble where none may be at the end."""
        if self.hold:
            return not_exactly_targets(position)
        missing = unseen(position)
        if missing is None and any(position.on):
            v = next(v for v, what in enumerate(position.on) if what)
            return f"a pebble is left on {position.name(v)}; the board must end empty"
        return missing
