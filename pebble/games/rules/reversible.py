"""The reversible game, and the spooky one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pebble.errors import InvalidArgument
from pebble.games.moves import Act, Move
from pebble.games.position import BLACK, GHOST, Broken, Game, Position
from pebble.games.rules.free_inputs import FreeInputsGame
from pebble.games.rules.goals import not_exactly_targets, unseen


@dataclass(frozen=True, kw_only=True)
class Reversible(FreeInputsGame):
    """The reversible game: a removal is a computation run backwards.

    Parameters
    ----------
    hold : bool
        Whether the board ends with pebbles on exactly the targets; else every target is pebbled
        at some time.
    free_inputs : bool
        Whether sources are always there and need no pebble.

    Notes
    -----
    Bennett (1989). Every placement and every removal is a move.
    """

    hold: bool = True
    title: ClassVar[str] = "reversible"

    def __str__(self) -> str:
        return f"{super().__str__()}/{'persistent' if self.hold else 'visit'}"

    def moves(self, position: Position) -> dict[Act, Callable[[Move], None]]:
        """Place and remove, both with every predecessor pebbled."""

        def place(move: Move) -> None:
            v = move[1]
            position.require_empty(v)
            position.require_preds(v, "placing")
            position.put(v, BLACK)
            position.compute(v)

        def remove(move: Move) -> None:
            v = move[1]
            position.take(v, BLACK)
            position.require_preds(v, "removing")
            position.cost += position.costs[v]

        return {Act.PLACE: place, Act.REMOVE: remove}

    def unmet(self, position: Position) -> str | None:
        """A target without its pebble, or a pebble elsewhere."""
        return not_exactly_targets(position) if self.hold else unseen(position)


@dataclass(frozen=True, kw_only=True)
class Spooky(Reversible):
    """The spooky game: reversible, and a pebble may be measured away into a ghost.

    Parameters
    ----------
    ghosts : int, optional
        Most ghosts at a time; None: any number.

    Notes
    -----
    Gidney (2019), "Spooky pebble games and irreversible uncomputation".
    """

    ghosts: int | None = None
    title: ClassVar[str] = "spooky"

    def __post_init__(self) -> None:
        if not self.hold or self.free_inputs:
            raise InvalidArgument("The spooky game ends with pebbles on exactly the targets.")
        if self.ghosts is not None and self.ghosts < 0:
            raise InvalidArgument(f"The number of ghosts is {self.ghosts}; it must be 0 or more.")

    def __str__(self) -> str:
        return Game.__str__(self) + ("" if self.ghosts is None else f"/{self.ghosts}")

    def moves(self, position: Position) -> dict[Act, Callable[[Move], None]]:
        """Those of the reversible game, ghost and restore."""
        on, limit = position.on, self.ghosts

        def ghost(move: Move) -> None:
            v = move[1]
            position.take(v, BLACK)
            if limit is not None and position.ghosts >= limit:
                raise Broken(f"at most {limit} ghosts may exist at a time")
            on[v] = GHOST
            position.ghosts += 1
            position.ghost_peak = max(position.ghost_peak, position.ghosts)
            position.cost += position.costs[v]

        def restore(move: Move) -> None:
            v = move[1]
            if on[v] != GHOST:
                raise Broken(f"{position.name(v)} carries no ghost")
            position.require_preds(v, "restoring a ghost")
            position.ghosts -= 1
            position.put(v, BLACK)
            position.compute(v)

        return {**super().moves(position), Act.GHOST: ghost, Act.RESTORE: restore}
