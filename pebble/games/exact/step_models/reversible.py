"""The reversible game and the spooky one: each move toggles a pebble."""

from __future__ import annotations

from typing import Any

from pebble.games.board import Board
from pebble.games.exact.step_models.base import StepModel
from pebble.games.moves import Act, Move, place, remove
from pebble.games.rules import Reversible, Spooky


class ReversibleModel(StepModel):
    """A placement or a removal a step."""

    def __init__(self, game: Reversible, board: Board, pebbles: int, steps: int) -> None:
        super().__init__(game, board, pebbles, steps)
        change = self.changes(self.on, "change")
        self.room(self.on)
        self.one_a_step(change)
        self.in_order(change, self.on)
        self.pay(change)
        for t in self.times:
            for v in self.nodes:
                for u in self.board.preds[v]:
                    self.model.add_implication(change[t][v], self.on[t][u])
        if game.hold:
            self.end(self.on, self.board.targets)
        else:
            self.visit(self.on)

    def moves_at(self, t: int, value: Any) -> list[Move]:
        """The one move of a step; none when all is done."""
        new, gone = self.changed(t, value)
        return [*map(remove, gone), *map(place, new)]


class SpookyModel(StepModel):
    """A placement, a removal, a ghost or its restoration a step."""

    def __init__(self, game: Spooky, board: Board, pebbles: int, steps: int) -> None:
        super().__init__(game, board, pebbles, steps)
        model, on = self.model, self.on
        ghost = self.ghost = self.grid("ghost")
        for v in self.nodes:
            self.fix(ghost[0][v], False)
        change = self.changes(on, "change")  # every move toggles a pebble
        self.room(on)
        self.one_a_step(change)
        self.pay(change)
        for t in range(self.steps + 1):
            if game.ghosts is not None:
                model.add(sum(ghost[t]) <= game.ghosts)
        for t in self.times:
            for v in self.nodes:
                now, before = ghost[t][v], ghost[t - 1][v]
                model.add_implication(now, ~on[t][v])
                model.add_bool_or([~now, before, on[t - 1][v]])
                model.add_bool_or([now, ~before, on[t][v]])
                for u in self.board.preds[v]:
                    model.add_bool_or([~change[t][v], now, on[t][u]])
        self.end(on, self.board.targets)
        self.end(ghost, ())

    def moves_at(self, t: int, value: Any) -> list[Move]:
        """The one move of a step; none when all is done."""
        new, gone = self.changed(t, value)
        acts = [Act.RESTORE if value(self.ghost[t - 1][v]) else Act.PLACE for v in new]
        offs = [Act.GHOST if value(self.ghost[t][v]) else Act.REMOVE for v in gone]
        return [Move(a, v) for a, v in [*zip(offs, gone), *zip(acts, new)]]
