"""The black-white game for CP-SAT: one interval of time for each pebble, not one set per step.

A pebble of this game comes and goes once, and each of the two is a move. A strategy of at most T
moves on a board that takes at least F gives a node at most 1 + (T - F) // 2 pebbles, so the model
has that many intervals for each, and says as much as one of T steps with far fewer variables.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pebble.games.board import Board
from pebble.games.floors import floor_of_cost
from pebble.games.moves import Act, Move
from pebble.games.rules import BlackWhite


@dataclass(frozen=True)
class _Pebble:
    """Variables of one pebble: whether it exists, from when to when, and its colour."""

    exists: Any
    start: Any
    end: Any
    black: Any
    stays: bool


class IntervalModel:
    """Variables and constraints; `costs` are (weight, variable) pairs, as in the step model."""

    def __init__(self, game: BlackWhite, board: Board, pebbles: int, steps: int) -> None:
        from ortools.sat.python import cp_model

        self.cp, self.model = cp_model, cp_model.CpModel()
        self.board, self.steps = board, steps
        self.plain = board if game.weighted else board.unweighted()
        self.hold = frozenset(board.targets) if game.hold else frozenset[int]()
        fewest = floor_of_cost(BlackWhite(hold=game.hold), board)
        copies = 1 + max(0, steps - fewest) // 2
        self.visited = frozenset(v for v in range(len(board)) if not board.succs[v]) - self.hold
        self.rows = [
            [self._pebble(v, i) for i in range(1 if v in self.visited else copies)]
            for v in range(len(board))
        ]
        self.pebbles = [pebble for row in self.rows for pebble in row]
        self.costs = [
            ((1 if pebble.stays else 2) * self.plain.costs[v], pebble.exists)
            for v, row in enumerate(self.rows)
            for pebble in row
        ]
        self._room(pebbles)
        self._one_at_a_time()
        self._without_loss()
        for v, row in enumerate(self.rows):
            self._in_turn(row)
            for pebble in row:
                self._supported(v, pebble)

    def _pebble(self, v: int, i: int) -> _Pebble:
        model, steps = self.model, self.steps
        stays = v in self.hold and i == 0
        pebble = _Pebble(
            model.new_bool_var(f"exists{v}_{i}"),
            model.new_int_var(1, max(steps, 1), f"start{v}_{i}"),
            model.new_int_var(steps + 1 if stays else 1, steps + 1, f"end{v}_{i}"),
            model.new_bool_var(f"black{v}_{i}"),
            stays,
        )
        if i == 0:  # whatever a target depends on is pebbled at some time
            model.add(pebble.exists == 1)
        if stays:
            model.add(pebble.black == 1)
        return pebble

    def _without_loss(self) -> None:
        """What some strategy of least cost fulfils."""
        for v, row in enumerate(self.rows):
            for p in row:
                if not self.board.preds[v] or v in self.visited:
                    # [Constraint] a pebble that can always come, or that none needs, is black
                    self.model.add(p.black == 1)
                if v in self.visited:
                    # [Constraint] what nothing reads goes at once
                    self.model.add(p.end == p.start + 1)
                elif not p.stays:
                    # [Constraint] nothing comes and goes for nothing
                    self.model.add(p.end >= p.start + 2).only_enforce_if(p.exists)
        if not self.hold:
            # [Constraint] of a strategy and itself backwards with the colours swapped, one
            white = [self.model.new_bool_var("") for _ in self.pebbles]
            for p, is_white in zip(self.pebbles, white):
                self.model.add_bool_or([p.black, ~p.exists, is_white])
            black = sum(p.exists for p in self.pebbles) - sum(white)
            self.model.add(black >= sum(white))

    def _room(self, pebbles: int) -> None:
        # [Constraint] the pebbles on the board weigh at most so much at any time
        spans, sizes = [], []
        for v, row in enumerate(self.rows):
            for p in row:
                length = self.model.new_int_var(1, self.steps + 1, "")
                spans.append(
                    self.model.new_optional_interval_var(p.start, length, p.end, p.exists, "")
                )
                sizes.append(self.plain.sizes[v])
        self.model.add_cumulative(spans, sizes, pebbles)

    def _one_at_a_time(self) -> None:
        # [Constraint] one move at a time, without a break
        moves = sum((1 if p.stays else 2) * p.exists for p in self.pebbles)
        self.model.add(moves <= self.steps)
        points = []
        for p in self.pebbles:
            for time in [p.start] if p.stays else [p.start, p.end]:
                points.append(self.model.new_optional_interval_var(time, 1, time + 1, p.exists, ""))
                self.model.add(time <= moves).only_enforce_if(p.exists)
        self.model.add_no_overlap(points)

    def _in_turn(self, row: list[_Pebble]) -> None:
        # [Constraint] the pebbles of a node come one after the other; the one that stays is last
        passing = [pebble for pebble in row if not pebble.stays]
        for first, then in pairwise(passing):
            self.model.add(first.end < then.start).only_enforce_if(then.exists)
            self.model.add_implication(then.exists, first.exists)
        for first in passing if row[0].stays else ():
            self.model.add(first.end < row[0].start).only_enforce_if(first.exists)

    def _supported(self, v: int, pebble: _Pebble) -> None:
        # [Constraint] black comes and white goes when every predecessor is pebbled
        model = self.model
        for u in self.board.preds[v]:
            for colour, time in ((pebble.black, pebble.start), (~pebble.black, pebble.end)):
                choices = []
                for other in self.rows[u]:
                    there = model.new_bool_var("")
                    model.add_implication(there, other.exists)
                    model.add(other.start < time).only_enforce_if(there)
                    model.add(time < other.end).only_enforce_if(there)
                    choices.append(there)
                model.add_bool_or([*choices, ~colour, ~pebble.exists])

    def strategy(self, value: Any, number: Any) -> tuple[Move, ...]:
        """The moves of a solution; `value` and `number` read variables."""
        events = []
        for v, row in enumerate(self.rows):
            for pebble in row:
                if not value(pebble.exists):
                    continue
                black = value(pebble.black)
                put, take = (Act.PLACE, Act.REMOVE) if black else (Act.WHITE, Act.LIFT)
                events.append((number(pebble.start), Move(put, v)))
                if not pebble.stays:
                    events.append((number(pebble.end), Move(take, v)))
        return tuple(move for _, move in sorted(events))
