"""The black-white game for CP-SAT: one placement a step, and after it the removals.

A removal never helps a removal: to lift a white pebble asks for pebbles, so of some removals
between two placements the white pebbles can go first, successors before predecessors, and then the
black ones. A pebble that comes goes again, except those that stay at the end, so a strategy of T
moves has (T + those that stay) / 2 placements: half as many steps as moves, and no removal needs
a place in time of its own.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from pebble.games.board import Board
from pebble.games.moves import Act, Move
from pebble.games.rules import BlackWhite


class BlackWhiteModel:
    """Variables and constraints; `costs` are (weight, variable) pairs, as in the other step models.

    Among the strategies of at most so many moves and of least cost the model asks for one with the
    fewest placements; of these one with the least sum of the steps in which pebbles go; of these
    one with the fewest white pebbles; and of these the first in the order of what is placed. Each
    constraint of `_without_loss` holds there, as what it forbids could be changed for the better.
    """

    def __init__(self, game: BlackWhite, board: Board, pebbles: int, steps: int) -> None:
        from ortools.sat.python import cp_model

        self.model = cp_model.CpModel()
        self.board = board
        self.plain = board if game.weighted else board.unweighted()
        self.hold = frozenset(board.targets) if game.hold else frozenset[int]()
        self.nodes = range(len(board))
        self.last = max(0, (steps + len(self.hold)) // 2)
        self.times = range(1, self.last + 1)
        # what carries a pebble after a step, which of them are white, what comes and what goes
        self.on, self.white = self._grid("on"), self._grid("white")
        self.put, self.gone = self._grid("put"), self._grid("gone")
        self.black_put, self.lifted = self._grid("black"), self._grid("lifted")
        self.some_gone = [self.model.new_bool_var(f"removals{t}") for t in range(self.last + 1)]
        # what comes goes again, but for the held targets: a constant times -1
        self.costs: list[tuple[int, Any]] = [
            (2 * self.plain.costs[v], self.put[t][v]) for t in self.times for v in self.nodes
        ]
        self.costs += [(-self.plain.costs[v], 1) for v in self.hold]
        self._ends()
        self._one_placement_a_step(pebbles)
        for t in self.times:
            for v in self.nodes:
                self._pebble(t, v)
                self._supported(t, v)
                self._without_loss(t, v)

    def _grid(self, name: str) -> list[list[Any]]:
        return [
            [self.model.new_bool_var(f"{name}{t}_{v}") for v in self.nodes]
            for t in range(self.last + 1)
        ]

    def _ends(self) -> None:
        for v in self.nodes:
            # [Constraint] the board begins empty, and ends with nothing but black on what to hold
            self.model.add(self.on[0][v] == 0)
            self.model.add(self.on[self.last][v] == int(v in self.hold))
            self.model.add_implication(self.on[self.last][v], ~self.white[self.last][v])
            # [Constraint] whatever a target depends on is pebbled at some time
            self.model.add_bool_or([self.put[t][v] for t in self.times])

    def _one_placement_a_step(self, pebbles: int) -> None:
        busy = [self.model.new_bool_var(f"busy{t}") for t in self.times]
        sizes = self.plain.sizes
        for t, active in zip(self.times, busy):
            # [Constraint] the pebbles on the board weigh at most so much at any time
            weights = [
                sizes[v] * there
                for v in self.nodes
                for there in (self.on[t - 1][v], self.put[t][v])
            ]
            self.model.add(sum(weights) <= pebbles)
            # [Constraint] one placement a step, the idle steps come last, and nothing goes in them
            self.model.add_exactly_one([*self.put[t], ~active])
            self.model.add_implication(self.some_gone[t], active)
            self.model.add_bool_or([~self.some_gone[t], *self.gone[t]])
        # [Constraint] at least one placement for each node: implied, but counting is hard for SAT
        self.model.add(sum(busy) >= len(self.board))
        for earlier, later in pairwise(busy):
            self.model.add_implication(later, earlier)

    def _pebble(self, t: int, v: int) -> None:
        """What `on`, `white` and the moves have to do with each other."""
        before, put, gone, on = self.on[t - 1][v], self.put[t][v], self.gone[t][v], self.on[t][v]
        white, was_white = self.white[t][v], self.white[t - 1][v]
        either, both = self.model.add_bool_or, self.model.add_implication
        both(put, ~before)
        both(on, ~gone)
        both(gone, self.some_gone[t])
        either([~on, before, put])
        either([~gone, before, put])
        either([~before, on, gone])
        either([~put, on, gone])
        # [Constraint] a pebble keeps its colour; `white` tells it also of one that goes
        either([~white, before, put])
        either([~before, ~was_white, white])
        either([~before, was_white, ~white])
        for both_of, first, second in (
            (self.black_put[t][v], put, ~white),
            (self.lifted[t][v], gone, white),
        ):
            both(both_of, first)
            both(both_of, second)
            either([both_of, ~first, ~second])

    def _supported(self, t: int, v: int) -> None:
        # [Constraint] black comes and white goes when every predecessor is pebbled
        for u in self.board.preds[v]:
            self.model.add_implication(self.black_put[t][v], self.on[t - 1][u])
            self.model.add_bool_or([~self.lifted[t][v], self.on[t - 1][u], self.put[t][u]])

    def _without_loss(self, t: int, v: int) -> None:
        preds, succs = self.board.preds[v], self.board.succs[v]
        put, gone, white, either = self.put, self.gone, self.white, self.model.add_bool_or
        # [Constraint] a pebble that can come black does
        # (else take it black: it may go whenever it went, and one pebble less is white)
        either([~put[t][v], ~white[t][v], *(~self.on[t - 1][u] for u in preds)])
        if not succs and v not in self.hold:
            # [Constraint] what nothing reads comes once, black, and goes at once
            # (one visit is enough; if it came white, let it come and go where it was lifted, where
            # all that it reads is there and its room is free: nothing else goes later for it)
            self.model.add_implication(put[t][v], gone[t][v])
            self.model.add_implication(put[t][v], self.black_put[t][v])
            self.model.add_at_most_one([put[s][v] for s in self.times[:t]])
        else:
            # [Constraint] a pebble goes at once when it has been of use for the last time, a white
            # one when its last predecessor comes
            # (else it could go a step earlier; in the step in which it came, it was for nothing)
            uses = [x for w in succs for x in (self.black_put[t][w], self.lifted[t][w])]
            either([~gone[t][v], white[t][v], *uses])
            either([~gone[t][v], *uses, *(put[t][u] for u in preds)])
        if t < self.last:
            for w in self.nodes[:v]:
                # [Constraint] placements without a removal between them are in the nodes' order
                # (else swap them: w reads no later node v, and v could come without w)
                either([~put[t][v], ~put[t + 1][w], self.some_gone[t]])

    def strategy(self, value: Any) -> tuple[Move, ...]:
        """The moves of a solution; `value` reads a variable that is true or false."""
        moves = []
        for t in self.times:
            white = [v for v in self.nodes if value(self.white[t][v])]
            new = [v for v in self.nodes if value(self.put[t][v])]
            gone = [v for v in self.nodes if value(self.gone[t][v])]
            moves += [Move(Act.WHITE if v in white else Act.PLACE, v) for v in new]
            moves += [Move(Act.LIFT, v) for v in reversed(gone) if v in white]
            moves += [Move(Act.REMOVE, v) for v in gone if v not in white]
        return tuple(moves)
