"""The reversible game with gates that are computed in place, on the pebble of what they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from pebble.errors import InvalidArgument
from pebble.games.board import Board
from pebble.games.moves import Act, Move
from pebble.games.position import BLACK, FREE, Broken, Position, SequentialGame
from pebble.games.rules.reversible import Reversible

_APART = Reversible(free_inputs=True)
"""What remains where nothing is computed in place."""


@dataclass(frozen=True, kw_only=True)
class InPlace(SequentialGame):
    """The reversible game on a logic network, some of whose gates take over a pebble.

    The sources are the inputs: they are there from the start, may be overwritten in place, and
    must all be back at the end, when of the gates exactly the targets carry pebbles. A gate is
    placed and removed as in the reversible game. In place, its pebble slides from something that
    it reads, which is then gone, and slides back onto it, or onto the only other thing that is
    missing; the rest of what it reads must be there. Every one of these is a move.

    Parameters
    ----------
    nodes : tuple of int or str, optional
        The gates that may be computed in place (the XOR gates of a circuit), by index or name.
        Default: all that read something.

    Raises
    ------
    InvalidArgument
        For the weighted game: a gate takes over a pebble whole.

    Notes
    -----
    Meuli, Soeken, Roetteler, Bjorner and De Micheli (2019), "Reversible pebbling game for quantum
    memory management", with the in-place XOR of their tool caterpillar. A gate that sits on the
    place of an input is no pebble more: pebbles are counted beyond the inputs, as qubits are beyond
    the inputs' own. Only so do the four circuits of that tool's tests have the values stated there.
    Their model never overwrites what two XOR gates read; here it may be.

    Examples
    --------
    >>> from pebble.games import graph_of_edges, least_cost
    >>> circuit = graph_of_edges(5, [(0, 3), (1, 3), (2, 4), (3, 4)])
    >>> print(*least_cost(circuit, InPlace(nodes=(3,)), 1).strategy, sep=", ")
    slide 0 -> 3, place 4, slide 3 -> 0
    """

    nodes: tuple[int | str, ...] | None = None
    title: ClassVar[str] = "reversible-inplace"

    def __post_init__(self) -> None:
        if self.weighted:
            raise InvalidArgument(
                "The in-place game has no weights, as a gate takes over a pebble whole; play it "
                "without."
            )
        if self.nodes is not None:
            object.__setattr__(self, "nodes", tuple(self.nodes))

    def __str__(self) -> str:
        return self.title + (
            "" if self.nodes is None else f"/nodes={','.join(map(str, self.nodes))}"
        )

    def in_place(self, board: Board) -> tuple[int, ...]:
        """The gates of a board that may be computed in place, ascending.

        Raises
        ------
        InvalidArgument
            If one of `nodes` is not on the board, or an input.
        """
        if self.nodes is None:
            return tuple(v for v, reads in enumerate(board.preds) if reads)
        found = sorted({board.index(node) for node in self.nodes})
        for v in found:
            if not board.preds[v]:
                raise InvalidArgument(
                    f"{board.names[v]!r} of {board.name!r} is an input: it reads nothing that it "
                    "could be computed on in place."
                )
        return tuple(found)

    def start(self, board: Board) -> Position:
        """The inputs are there, and no pebble."""
        return _APART.start(board)

    def moves(self, position: Position) -> dict[Act, Callable[[Move], None]]:
        """Place and remove as in the reversible game, and slide to and fro."""
        preds, on = position.preds, position.on
        in_place = frozenset(self.in_place(position.board))

        def apart(act: Act) -> Callable[[Move], None]:
            change = _APART.moves(position)[act]

            def checked(move: Move) -> None:
                if not preds[move[1]]:
                    raise Broken("an input is neither computed nor uncomputed")
                change(move)

            return checked

        def slide(move: Move) -> None:
            _, to, start = move
            forward = start in preds[to]
            if not forward and not (0 <= start < len(on) and to in preds[start]):
                raise Broken("a pebble slides only to a gate from what it reads, or back")
            gate = to if forward else start
            if gate not in in_place:
                raise Broken(f"{position.name(gate)} may not be computed in place")
            if on[to]:
                raise Broken(f"{position.name(to)} is there already")
            if forward:
                position.require_preds(to, "computing in place")
            position.take(start, BLACK if preds[start] else FREE)
            position.put(to, BLACK if preds[to] else FREE)
            if forward:
                position.compute(to)
            else:
                position.require_preds(start, "uncomputing in place")
                position.cost += position.costs[start]

        return {Act.PLACE: apart(Act.PLACE), Act.REMOVE: apart(Act.REMOVE), Act.SLIDE: slide}

    def unmet(self, position: Position) -> str | None:
        """An input that was overwritten, a target without its pebble, or a pebble elsewhere."""
        for v in position.board.sources:
            if position.on[v] != FREE:
                return f"input {position.name(v)} is overwritten and not back at the end"
        return _APART.unmet(position)
