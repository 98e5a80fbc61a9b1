"""The red-blue game: a computation, a load or a store a step."""

from __future__ import annotations

from typing import Any

from pebble.games.board import Board
from pebble.games.exact.step_models.base import StepModel
from pebble.games.moves import Act, Move, remove
from pebble.games.rules import RedBlue


class RedBlueModel(StepModel):
    """A computation, a load or a store a step; what goes before it goes with it."""

    def __init__(self, game: RedBlue, board: Board, pebbles: int, steps: int) -> None:
        super().__init__(game, board, pebbles, steps)
        model, on = self.model, self.on
        blue = self.grid("blue")
        put, load, store = (self.grid(name) for name in ("put", "load", "store"))
        self.put, self.store = put, store
        start = set(self.board.sources) if game.blue_inputs else set()
        self.room(on)
        self.one_a_step(put, load, store)
        self.pay(put, game.compute)
        self.pay(load, game.load, sizes=True)
        self.pay(store, game.store, sizes=True)
        for v in self.nodes:
            self.fix(blue[0][v], v in start)
        for t in self.times:
            for v in self.nodes:
                for act in (put, load):
                    model.add_implication(act[t][v], on[t][v])
                    model.add_implication(act[t][v], ~on[t - 1][v])
                model.add_bool_or([~on[t][v], on[t - 1][v], put[t][v], load[t][v]])
                model.add_bool_or([~blue[t][v], blue[t - 1][v], store[t][v]])
                model.add_implication(load[t][v], blue[t - 1][v])
                model.add_implication(store[t][v], on[t - 1][v])
                if v in start:
                    self.fix(put[t][v], False)
                for u in self.board.preds[v]:
                    model.add_implication(put[t][v], on[t - 1][u])
                    model.add_implication(put[t][v], on[t][u])
        if not game.recompute:
            for v in self.nodes:
                model.add(sum(put[t][v] for t in self.times) <= 1)
        for v in self.board.targets:
            self.fix(blue[self.steps][v], True)

    def moves_at(self, t: int, value: Any) -> list[Move]:
        """Stores, removals, and then a computation or a load."""
        new, gone = self.changed(t, value)
        stored = [Move(Act.STORE, v) for v in self.nodes if value(self.store[t][v])]
        acts = [Act.PLACE if value(self.put[t][v]) else Act.LOAD for v in new]
        return [*stored, *map(remove, gone), *(Move(a, v) for a, v in zip(acts, new))]
