"""The parallel games: a step changes a set of nodes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from pebble.games.board import Board
from pebble.games.exact.step_models.base import StepModel
from pebble.games.moves import Step
from pebble.games.rules import ParallelBlack, ParallelReversible


class ParallelModel(StepModel):
    """Any placements and removals that the rules allow, at each step."""

    def __init__(
        self, game: ParallelBlack | ParallelReversible, board: Board, pebbles: int, steps: int
    ) -> None:
        super().__init__(game, board, pebbles, steps)
        on, model = self.on, self.model
        change = self.changes(on, "change")
        self.room(on)
        black = self.black = isinstance(game, ParallelBlack)
        busy = [model.new_bool_var(f"busy{t}") for t in self.times]
        for earlier, later in pairwise(busy):
            model.add_implication(later, earlier)
        for t in self.times:
            for v in self.nodes:
                model.add_implication(change[t][v], busy[t - 1])
                if black:
                    model.add_implication(on[t][v], busy[t - 1])
                for u in self.board.preds[v]:
                    keep = [on[t][v]] if black else []
                    model.add_bool_or([~change[t][v], *(~k for k in keep), on[t - 1][u]])
                    if not black:
                        model.add_bool_or([~change[t][v], on[t][u]])
        if black:
            self.visit(on)
            self.pay(on, sizes=True)
        else:
            self.end(on, self.board.targets)
            self.costs += [(1, active) for active in busy]

    def moves_at(self, t: int, value: Any) -> list[Step]:
        """The step itself."""
        new, gone = self.changed(t, value)
        return [Step(tuple(new), tuple(gone))]

    def strategy(self, value: Any) -> tuple[Step, ...]:
        """The steps up to the last one that is of use."""
        steps: tuple[Step, ...] = super().strategy(value)
        of_use = [
            t for t, step in enumerate(steps, 1) if step.place or (step.remove and not self.black)
        ]
        return steps[: max(of_use, default=0)]
