"""The black game, one placement a step."""

from __future__ import annotations

from typing import Any

from pebble.errors import InvalidArgument
from pebble.games.board import Board
from pebble.games.exact.step_models.base import StepModel
from pebble.games.moves import Act, Move, place, remove
from pebble.games.rules import Black


class BlackModel(StepModel):
    """A placement a step; what goes before it goes with it."""

    def __init__(self, game: Black, board: Board, pebbles: int, steps: int) -> None:
        if game.slide and game.weighted:
            raise InvalidArgument("CP-SAT does not play the weighted game with sliding.")
        super().__init__(game, board, pebbles, steps)
        model, on = self.model, self.on
        put = self.grid("put")
        self.room(on)
        self.one_a_step(put)
        self.pay(put)
        for t in self.times:
            for v in self.nodes:
                model.add_implication(put[t][v], on[t][v])
                model.add_implication(put[t][v], ~on[t - 1][v])
                model.add_bool_or([~on[t][v], on[t - 1][v], put[t][v]])
                for u in self.board.preds[v]:
                    model.add_implication(put[t][v], on[t - 1][u])
                    if not game.slide:
                        model.add_implication(put[t][v], on[t][u])
                extra = self.plain.workspaces[v]
                if extra:
                    used = sum(self.plain.sizes[u] * on[t][u] for u in self.nodes)
                    model.add(used + extra <= self.pebbles).only_enforce_if(put[t][v])
        if not game.recompute:
            for v in self.nodes:
                model.add(sum(put[t][v] for t in self.times) <= 1)
        if game.hold:
            for v in self.board.targets:
                self.fix(on[self.steps][v], True)
        else:
            self.visit(on)

    def moves_at(self, t: int, value: Any) -> list[Move]:
        """Removals, and then a placement or a slide."""
        new, gone = self.changed(t, value)
        if not new:
            return []
        leaving = [u for u in gone if u in self.board.preds[new[0]]]
        first = [remove(u) for u in gone if u not in leaving]
        if leaving:
            after = [remove(u) for u in leaving[1:]]
            return [*first, Move(Act.SLIDE, new[0], leaving[0]), *after]
        return [*first, place(new[0])]
