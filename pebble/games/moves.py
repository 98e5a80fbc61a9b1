"""Moves: the words that strategies of all games are written in."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple


class Act(StrEnum):
    """What a move does. Each game knows only some of them."""

    PLACE = "place"
    """Put a black (red) pebble on a node: compute it."""
    REMOVE = "remove"
    """Take a black (red) pebble off: forget it, or uncompute it in a reversible game."""
    SLIDE = "slide"
    """Move a pebble from a predecessor onto the node: compute in place. In the in-place game also
    from a node that reads it: uncompute in place."""
    WHITE = "white"
    """Put a white pebble on a node: guess it."""
    LIFT = "lift"
    """Take a white pebble off: prove the guess."""
    GHOST = "ghost"
    """Turn a pebble into a ghost: measure it away."""
    RESTORE = "restore"
    """Turn a ghost back into a pebble."""
    LOAD = "load"
    """Copy a value from slow (blue) to fast (red) memory."""
    STORE = "store"
    """Copy a value from fast (red) to slow (blue) memory."""


class Move(NamedTuple):
    """One move of a sequential game.

    Attributes
    ----------
    act : Act
    node : int
        Index of the node on the board (of the op in its graph).
    source : int
        For a slide: the node whose pebble moves; -1 otherwise.

    Examples
    --------
    >>> print(Move(Act.PLACE, 3))
    place 3
    >>> print(Move(Act.SLIDE, 3, 1))
    slide 1 -> 3
    """

    act: Act
    node: int
    source: int = -1

    def __str__(self) -> str:
        return self.text(None)

    def text(self, names: Sequence[str] | None) -> str:
        """The move in words, with the names of the nodes where they are given."""
        if self.act == Act.SLIDE:
            return f"slide {_name(self.source, names)} -> {_name(self.node, names)}"
        return f"{self.act} {_name(self.node, names)}"


class Step(NamedTuple):
    """One step of a parallel game: all of it happens at once.

    Attributes
    ----------
    place, remove : tuple of int
        Nodes that get a pebble, and nodes that lose theirs.

    Examples
    --------
    >>> print(Step((1, 2), (0,)))
    place 1 2, remove 0
    """

    place: tuple[int, ...] = ()
    remove: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.text(None)

    def text(self, names: Sequence[str] | None) -> str:
        """The step in words, with the names of the nodes where they are given."""

        def listed(nodes: tuple[int, ...]) -> str:
            return " ".join(_name(v, names) for v in nodes)

        parts = []
        if self.place:
            parts.append(f"place {listed(self.place)}")
        if self.remove:
            parts.append(f"remove {listed(self.remove)}")
        return ", ".join(parts) or "wait"


Strategy = tuple[Move, ...] | tuple[Step, ...]
"""The moves of a play, in order."""


def place(node: int) -> Move:
    """Put a pebble on a node."""
    return Move(Act.PLACE, node)


def remove(node: int) -> Move:
    """Take the pebble off a node."""
    return Move(Act.REMOVE, node)


def _name(node: int, names: Sequence[str] | None) -> str:
    known = names is not None and 0 <= node < len(names)
    return names[node] if known and names is not None else str(node)
