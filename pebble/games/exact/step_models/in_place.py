"""The in-place game: a move is a gate, which takes a place of its own or a pebble's over."""

from __future__ import annotations

from typing import Any

from pebble.games.board import Board
from pebble.games.exact.step_models.base import StepModel
from pebble.games.moves import Act, Move, place, remove
from pebble.games.rules import InPlace


class InPlaceModel(StepModel):
    """A placement, a removal or a slide a step."""

    def __init__(self, game: InPlace, board: Board, pebbles: int, steps: int) -> None:
        super().__init__(game, board, pebbles, steps)
        model, on = self.model, self.on
        in_place = frozenset(game.in_place(self.board))
        change = self.changes(on, "change")
        gate, taken = (self.grid(name) for name in ("gate", "taken"))
        self.room(on)
        self.one_a_step(gate)
        self.pay(gate)
        for t in self.times:
            model.add_at_most_one(taken[t])
            for v in self.nodes:
                # [Constraint] what changes is the gate of the move, or that whose place it takes
                model.add(gate[t][v] + taken[t][v] == change[t][v])
                readers = [w for w in self.board.succs[v] if w in in_place]
                model.add_bool_or([~taken[t][v], *(gate[t][w] for w in readers)])
                if v in self.inputs:
                    self.fix(gate[t][v], False)
                for u in self.board.preds[v]:
                    # [Constraint] what the gate reads is there, unless their pebble slides
                    model.add_bool_or([~gate[t][v], taken[t][u], on[t][u]])
                    sliding = [~gate[t][v], ~taken[t][u]]
                    model.add_bool_or([*sliding, on[t][u], on[t][v]])
                    model.add_bool_or([*sliding, ~on[t][u], ~on[t][v]])
        self.end(on, {*self.inputs, *self.board.targets})

    def there_at_first(self) -> tuple[int, ...]:
        """The inputs."""
        return self.board.sources

    def moves_at(self, t: int, value: Any) -> list[Move]:
        """The one move of a step; none when all is done."""
        new, gone = self.changed(t, value)
        if gone and new:
            return [Move(Act.SLIDE, new[0], gone[0])]
        return [*map(remove, gone), *map(place, new)]
