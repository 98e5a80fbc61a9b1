"""The base of the games whose inputs may be free."""

from __future__ import annotations

from dataclasses import dataclass

from pebble.games.board import Board
from pebble.games.position import FREE, Position, SequentialGame


@dataclass(frozen=True, kw_only=True)
class FreeInputsGame(SequentialGame):
    """Games whose sources may be free: always there, and no pebbles.

    Parameters
    ----------
    free_inputs : bool
        Whether sources are always there and need no pebble.
    """

    free_inputs: bool = False

    def start(self, board: Board) -> Position:
        """The empty board; free inputs are marked."""
        position = Position(board, self)
        for v in board.sources if self.free_inputs else ():
            position.on[v] = FREE
        return position
