"""The second exact engine: CP-SAT on a model with one set of variables for each step.

Independent of the state search in rules, encoding and solver. A model of T steps can find a
strategy and its least cost among those of at most T moves; it cannot prove that longer ones do not
exist, so every claim names T, except in one-shot games, where T = n says it all.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from pebble.errors import InvalidArgument
from pebble.games.answers import Found
from pebble.games.board import Board
from pebble.games.exact.guesses import GuessModel
from pebble.games.moves import Act, Move, Step, place, remove
from pebble.games.position import Game
from pebble.games.rules import (
    Black,
    BlackWhite,
    InPlace,
    ParallelBlack,
    ParallelReversible,
    RedBlue,
    Reversible,
    Spooky,
)


def solve_steps(
    game: Game,
    board: Board,
    pebbles: int,
    *,
    optimal: bool = True,
    deadline: float | None = None,
    horizon: int | None = None,
    seed: int = 0,
) -> Found:
    """A strategy of at most `horizon` moves with least cost, or the proof that there is none.

    Parameters
    ----------
    horizon : int, optional
        Most moves that count (placements of a black game; all but removals of a red-blue one).
        Default: n for one-shot black games, else three times the nodes.

    Raises
    ------
    InvalidArgument
        For weighted sliding, which this model does not cover.
    """
    oneshot = isinstance(game, Black) and not game.recompute
    steps = len(board) if oneshot else 3 * len(board) if horizon is None else horizon
    whole = GuessModel if isinstance(game, BlackWhite) else _StepModel
    model: Any = whole(game, board, pebbles, steps)  # type: ignore[arg-type]
    solver = model.cp.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    if deadline is not None:
        solver.parameters.max_time_in_seconds = max(deadline - time.monotonic(), 0.01)
    if optimal:
        model.model.minimize(sum(weight * var for weight, var in model.costs))
    status = solver.solve(model.model)
    scope = None if oneshot else steps
    if status == model.cp.INFEASIBLE:
        return Found(None, infeasible=True, complete=True, horizon=scope)
    bound = max(0, round(solver.best_objective_bound)) if optimal else 0
    if status not in (model.cp.OPTIMAL, model.cp.FEASIBLE):
        return Found(None, bound, horizon=scope)
    strategy = model.strategy(solver.boolean_value, solver.value)
    return Found(strategy, bound, complete=status == model.cp.OPTIMAL, horizon=scope)


class _StepModel:
    """Variables and constraints of one game; `costs` are (weight, variable) pairs."""

    def __init__(self, game: Game, board: Board, pebbles: int, steps: int) -> None:
        from ortools.sat.python import cp_model

        self.cp, self.model = cp_model, cp_model.CpModel()
        self.game, self.board, self.pebbles, self.steps = game, board, pebbles, steps
        self.plain = board if game.weighted else board.unweighted()
        self.nodes, self.times = range(len(board)), range(1, steps + 1)
        self.costs: list[tuple[int, Any]] = []
        self.on = self._grid("on", steps + 1)
        # the inputs of the in-place game are there, and no pebbles
        self.inputs = board.sources if isinstance(game, InPlace) else ()
        for v in self.nodes:
            self._fix(self.on[0][v], v in self.inputs)
        build = {
            Black: self._black, Reversible: self._reversible, InPlace: self._in_place,
            Spooky: self._spooky, RedBlue: self._red_blue, ParallelBlack: self._parallel,
            ParallelReversible: self._parallel,
        }[type(game)]  # fmt: skip
        build()

    def _grid(self, name: str, rows: int) -> list[list[Any]]:
        return [
            [self.model.new_bool_var(f"{name}{t}_{v}") for v in self.nodes] for t in range(rows)
        ]

    def _fix(self, var: Any, value: bool) -> None:
        self.model.add(var == int(value))

    def _room(self, *layers: list[list[Any]]) -> None:
        # [Constraint] the pebbles on the board weigh at most so much at any time
        for t in range(self.steps + 1):
            weights = [self.plain.sizes[v] * grid[t][v] for grid in layers for v in self.nodes]
            self.model.add(sum(weights) <= self.pebbles + len(self.inputs))

    def _xor(self, grid: list[list[Any]], name: str) -> list[list[Any]]:
        """Variables that say where a grid changes from one step to the next."""
        change = self._grid(name, self.steps + 1)
        for t in self.times:
            for v in self.nodes:
                self.model.add_bool_xor([grid[t - 1][v], grid[t][v], change[t][v], True])
        return change

    def _one_a_step(self, *layers: list[list[Any]]) -> None:
        # [Constraint] one move a step, and the idle steps come last
        busy = []
        for t in self.times:
            moves = [grid[t][v] for grid in layers for v in self.nodes]
            self.model.add_at_most_one(moves)
            active = self.model.new_bool_var(f"busy{t}")
            self.model.add(sum(moves) == active)
            busy.append(active)
        for earlier, later in pairwise(busy):
            self.model.add_implication(later, earlier)

    def _sorted(self, moved: list[list[Any]], there: list[list[Any]]) -> None:
        """Of strategies that differ by swaps of moves on nodes that do not touch, one is enough.

        `moved` says which node a step changes, and `there` whether it carries a pebble after it.
        """
        for t in self.times[:-1]:
            for v in self.nodes:
                placed, left = (moved[t][v], there[t][v]), (moved[t][v], ~there[t][v])
                if v not in self.board.targets:
                    # [Constraint] nothing is placed for nothing
                    self.model.add_bool_or([~moved[t][v], ~moved[t + 1][v]])
                for w in self.nodes:
                    if w == v or w in self.board.preds[v] or v in self.board.preds[w]:
                        continue
                    then_placed = (moved[t + 1][w], there[t + 1][w])
                    then_left = (moved[t + 1][w], ~there[t + 1][w])
                    # [Constraint] removals before placements, each in the order of the nodes
                    self._not_both(placed, then_left)
                    if w < v:
                        self._not_both(placed, then_placed)
                        self._not_both(left, then_left)

    def _not_both(self, first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
        self.model.add_bool_or([~literal for literal in (*first, *second)])

    def _pay(self, grid: list[list[Any]], weight: int = 1, *, sizes: bool = False) -> None:
        each = self.plain.sizes if sizes else self.plain.costs
        for t in self.times:
            self.costs += [(weight * each[v], grid[t][v]) for v in self.nodes]

    def _visit(self, *layers: list[list[Any]]) -> None:
        # [Constraint] each target carries a pebble at some time
        for v in self.board.targets:
            self.model.add_bool_or([grid[t][v] for grid in layers for t in self.times])

    def _end(self, grid: list[list[Any]], nodes: Any) -> None:
        # [Constraint] at the end there are pebbles on exactly these nodes
        for v in self.nodes:
            self._fix(grid[self.steps][v], v in nodes)

    def _black(self) -> None:
        game, model, on = self.game, self.model, self.on
        assert isinstance(game, Black)
        if game.slide and game.weighted:
            raise InvalidArgument("CP-SAT does not play the weighted game with sliding.")
        put = self.put = self._grid("put", self.steps + 1)
        self._room(on)
        self._one_a_step(put)
        self._pay(put)
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
                self._fix(on[self.steps][v], True)
        else:
            self._visit(on)

    def _reversible(self) -> None:
        change = self._xor(self.on, "change")
        self._room(self.on)
        self._one_a_step(change)
        self._sorted(change, self.on)
        self._pay(change)
        for t in self.times:
            for v in self.nodes:
                for u in self.board.preds[v]:
                    self.model.add_implication(change[t][v], self.on[t][u])
        if self.game.hold:  # type: ignore[attr-defined]
            self._end(self.on, self.board.targets)
        else:
            self._visit(self.on)

    def _in_place(self) -> None:
        game, model, on = self.game, self.model, self.on
        assert isinstance(game, InPlace)
        in_place = frozenset(game.in_place(self.board))
        change = self._xor(on, "change")
        gate, taken = (self._grid(name, self.steps + 1) for name in ("gate", "taken"))
        self._room(on)
        self._one_a_step(gate)
        self._pay(gate)
        for t in self.times:
            model.add_at_most_one(taken[t])
            for v in self.nodes:
                # [Constraint] what changes is the gate of the move, or that whose place it takes
                model.add(gate[t][v] + taken[t][v] == change[t][v])
                readers = [w for w in self.board.succs[v] if w in in_place]
                model.add_bool_or([~taken[t][v], *(gate[t][w] for w in readers)])
                if v in self.inputs:
                    self._fix(gate[t][v], False)
                for u in self.board.preds[v]:
                    # [Constraint] what the gate reads is there, unless their pebble slides
                    model.add_bool_or([~gate[t][v], taken[t][u], on[t][u]])
                    sliding = [~gate[t][v], ~taken[t][u]]
                    model.add_bool_or([*sliding, on[t][u], on[t][v]])
                    model.add_bool_or([*sliding, ~on[t][u], ~on[t][v]])
        self._end(on, {*self.inputs, *self.board.targets})

    def _spooky(self) -> None:
        game, model, on = self.game, self.model, self.on
        assert isinstance(game, Spooky)
        ghost = self.ghost = self._grid("ghost", self.steps + 1)
        for v in self.nodes:
            self._fix(ghost[0][v], False)
        change = self._xor(on, "change")  # every move toggles a pebble
        self._room(on)
        self._one_a_step(change)
        self._pay(change)
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
        self._end(on, self.board.targets)
        self._end(ghost, ())

    def _red_blue(self) -> None:
        game, model, on = self.game, self.model, self.on
        assert isinstance(game, RedBlue)
        blue = self._grid("blue", self.steps + 1)
        put, load, store = (self._grid(name, self.steps + 1) for name in ("put", "load", "store"))
        self.put, self.load, self.store = put, load, store
        start = set(self.board.sources) if game.blue_inputs else set()
        self._room(on)
        self._one_a_step(put, load, store)
        self._pay(put, game.compute)
        self._pay(load, game.load, sizes=True)
        self._pay(store, game.store, sizes=True)
        for v in self.nodes:
            self._fix(blue[0][v], v in start)
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
                    self._fix(put[t][v], False)
                for u in self.board.preds[v]:
                    model.add_implication(put[t][v], on[t - 1][u])
                    model.add_implication(put[t][v], on[t][u])
        if not game.recompute:
            for v in self.nodes:
                model.add(sum(put[t][v] for t in self.times) <= 1)
        for v in self.board.targets:
            self._fix(blue[self.steps][v], True)

    def _parallel(self) -> None:
        on, model = self.on, self.model
        change = self._xor(on, "change")
        self._room(on)
        black = isinstance(self.game, ParallelBlack)
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
            self._visit(on)
            self._pay(on, sizes=True)
        else:
            self._end(on, self.board.targets)
            self.costs += [(1, active) for active in busy]

    def strategy(self, value: Any, number: Any) -> tuple[Any, ...]:
        """The moves of a solution; `value` reads a variable that is true or false."""
        if self.game.parallel:
            return self._steps_of(value)
        moves: list[Move] = []
        for t in self.times:
            moves += self._moves_at(t, value)
        return tuple(moves)

    def _steps_of(self, value: Any) -> tuple[Step, ...]:
        steps, last = [], -1
        for t in self.times:
            new = tuple(v for v in self.nodes if value(self.on[t][v]) > value(self.on[t - 1][v]))
            gone = tuple(v for v in self.nodes if value(self.on[t][v]) < value(self.on[t - 1][v]))
            steps.append(Step(new, gone))
            if new or (gone and isinstance(self.game, ParallelReversible)):
                last = t
        return tuple(steps[: max(last, 0)])

    def _moves_at(self, t: int, value: Any) -> list[Move]:
        game, on = self.game, self.on
        gone = [v for v in self.nodes if value(on[t - 1][v]) and not value(on[t][v])]
        new = [v for v in self.nodes if value(on[t][v]) and not value(on[t - 1][v])]
        if isinstance(game, Black):
            if not new:
                return []
            leaving = [u for u in gone if u in self.board.preds[new[0]]]
            first = [remove(u) for u in gone if u not in leaving]
            if leaving:
                after = [remove(u) for u in leaving[1:]]
                return [*first, Move(Act.SLIDE, new[0], leaving[0]), *after]
            return [*first, place(new[0])]
        if isinstance(game, RedBlue):
            stored = [Move(Act.STORE, v) for v in self.nodes if value(self.store[t][v])]
            acts = [Act.PLACE if value(self.put[t][v]) else Act.LOAD for v in new]
            return [*stored, *map(remove, gone), *(Move(a, v) for a, v in zip(acts, new))]
        if isinstance(game, Spooky):
            acts = [Act.RESTORE if value(self.ghost[t - 1][v]) else Act.PLACE for v in new]
            offs = [Act.GHOST if value(self.ghost[t][v]) else Act.REMOVE for v in gone]
            return [Move(a, v) for a, v in [*zip(offs, gone), *zip(acts, new)]]
        if isinstance(game, InPlace) and gone and new:
            return [Move(Act.SLIDE, new[0], gone[0])]
        return [*map(remove, gone), *map(place, new)]
