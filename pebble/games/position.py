"""Positions: where the pebbles are in the middle of a play, and the base of all games."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pebble.games.board import Board
from pebble.games.moves import Act, Move

EMPTY, BLACK, WHITE, GHOST, FREE = range(5)
"""What may lie on a node. Red pebbles are BLACK; FREE marks an input that needs no pebble."""


class Broken(Exception):
    """A rule that a move breaks; `play` adds the step and the move."""


class Position:
    """Where the pebbles are, and what has happened so far.

    Attributes
    ----------
    on : bytearray, one of EMPTY, BLACK, WHITE, GHOST, FREE for each node
    blue, seen : bytearray
        Whether a node is in slow memory, and whether it was ever pebbled.
    used : int
        Weight of the pebbles (ghosts and blue ones weigh nothing).
    extra : int
        Weight that exists only during the move in hand.
    cost, io, placements, ghosts : int
        What the game makes least; loads and stores; computations; ghosts now.
    """

    __slots__ = (
        "blue",
        "board",
        "cost",
        "costs",
        "extra",
        "ghost_peak",
        "ghosts",
        "io",
        "on",
        "placements",
        "preds",
        "seen",
        "sizes",
        "used",
        "workspaces",
    )  # fmt: skip

    def __init__(self, board: Board, game: Game) -> None:
        n = len(board)
        self.board, self.preds = board, board.preds
        self.on, self.blue, self.seen = bytearray(n), bytearray(n), bytearray(n)
        self.used = self.extra = self.cost = self.io = self.placements = 0
        self.ghosts = self.ghost_peak = 0
        plain = board if game.weighted else board.unweighted()
        self.sizes, self.costs = plain.sizes, plain.costs
        self.workspaces = plain.workspaces if any(plain.workspaces) else None

    def missing(self, node: int) -> int:
        """A predecessor without a pebble, or -1."""
        on = self.on
        for u in self.preds[node]:
            if on[u] == EMPTY or on[u] == GHOST:
                return u
        return -1

    def require_preds(self, node: int, doing: str) -> None:
        """Raise unless every predecessor carries a pebble."""
        u = self.missing(node)
        if u >= 0:
            raise Broken(
                f"{doing} needs a pebble on every predecessor, and {self.name(u)} has none"
            )

    def name(self, node: int) -> str:
        """The name of a node in quotes."""
        return repr(self.board.names[node])


@dataclass(frozen=True, kw_only=True)
class Game:
    """Base of the games.

    Parameters
    ----------
    weighted : bool
        Whether pebbles weigh the sizes of the values and placements cost what the ops cost;
        otherwise both are 1.
    """

    weighted: bool = False
    title: ClassVar[str] = ""
    cost_name: ClassVar[str] = "moves"
    parallel: ClassVar[bool] = False

    def __str__(self) -> str:
        return self.title + ("-weighted" if self.weighted else "")

    def start(self, board: Board) -> Position:
        """The position before the first move."""
        return Position(board, self)

    def moves(self, position: Position) -> dict[Act, Callable[[Move], None]]:
        """How each act that the game knows changes the position."""
        raise NotImplementedError

    def unmet(self, position: Position) -> str | None:
        """What is still missing for the goal; None if it is reached."""
        raise NotImplementedError
