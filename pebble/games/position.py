"""Positions: where the pebbles are in the middle of a play, and the bases of all games."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pebble.games.board import Board
from pebble.games.moves import Act, Move

EMPTY, BLACK, WHITE, GHOST, FREE = range(5)
"""What may lie on a node. Red pebbles are BLACK; FREE marks an input that needs no pebble."""


_TAKEN = {
    FREE: "a free input needs no pebble",
    GHOST: "the node carries a ghost; restore it instead",
}


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

    def require_empty(self, node: int) -> None:
        """Raise if something lies on the node."""
        what = self.on[node]
        if what:
            raise Broken(_TAKEN.get(what, "the node already carries a pebble"))

    def require_preds(self, node: int, doing: str) -> None:
        """Raise unless every predecessor carries a pebble."""
        on = self.on
        for u in self.preds[node]:
            if on[u] == EMPTY or on[u] == GHOST:
                raise Broken(
                    f"{doing} needs a pebble on every predecessor, and {self.name(u)} has none"
                )

    def require_new(self, node: int, act: str) -> None:
        """Raise if the node was computed before, in a one-shot game."""
        if self.seen[node]:
            raise Broken(f"each node may be {act} only once in a one-shot game")

    def compute(self, node: int) -> None:
        """Take note of a computation: the node's cost, and that it happened."""
        self.seen[node] = 1
        self.placements += 1
        self.cost += self.costs[node]

    def put(self, node: int, what: int) -> None:
        """A pebble comes onto an empty node."""
        self.on[node] = what
        self.used += self.sizes[node]

    def take(self, node: int, what: int) -> None:
        """A pebble goes, which must be there."""
        if self.on[node] != what:
            raise Broken(f"{self.name(node)} carries no such pebble")
        self.on[node] = EMPTY
        self.used -= self.sizes[node]

    def name(self, node: int) -> str:
        """The name of a node in quotes."""
        return repr(self.board.names[node])


@dataclass(frozen=True, kw_only=True)
class Game(ABC):
    """What every game has. A game of your own inherits `SequentialGame`.

    Parameters
    ----------
    weighted : bool
        Whether pebbles weigh the sizes of the values and placements cost what the ops cost;
        otherwise both are 1.
    """

    weighted: bool = False
    title: ClassVar[str] = ""
    cost_name: ClassVar[str] = "moves"

    def __str__(self) -> str:
        return self.title + ("-weighted" if self.weighted else "")

    def start(self, board: Board) -> Position:
        """The position before the first move."""
        return Position(board, self)

    @property
    @abstractmethod
    def parallel(self) -> bool:
        """Whether each step places and removes sets of pebbles; else there are moves."""

    @abstractmethod
    def unmet(self, position: Position) -> str | None:
        """What is still missing for the goal; None if it is reached."""


@dataclass(frozen=True, kw_only=True)
class SequentialGame(Game):
    """Base of the games of one move at a time, also for games of your own.

    Examples
    --------
    >>> from pebble.games import make_graph, place, play
    >>> class Laying(SequentialGame):
    ...     title = "laying"
    ...     def moves(self, position):
    ...         def lay(move):
    ...             position.require_empty(move.node)
    ...             position.require_preds(move.node, "laying")
    ...             position.put(move.node, BLACK)
    ...         return {Act.PLACE: lay}
    ...     def unmet(self, position):
    ...         return None if all(position.on) else "a node is empty"
    >>> play(Laying(), make_graph("path:3"), [place(0), place(1), place(2)]).peak
    3
    """

    parallel = False

    @abstractmethod
    def moves(self, position: Position) -> dict[Act, Callable[[Move], None]]:
        """How each act that the game knows changes the position."""
