"""The second exact engine: CP-SAT on a model with one set of variables for each step.

Independent of the state search in rules, encoding and solver. A model of T steps can find a
strategy and its least cost among those of at most T moves; it cannot prove that longer ones do not
exist, so every claim names T, except in one-shot games, where T = n says it all.
"""

from __future__ import annotations

import time
from typing import Any

from pebble.games.answers import Found
from pebble.games.board import Board
from pebble.games.exact.step_models.black import BlackModel
from pebble.games.exact.step_models.black_white import BlackWhiteModel
from pebble.games.exact.step_models.in_place import InPlaceModel
from pebble.games.exact.step_models.parallel import ParallelModel
from pebble.games.exact.step_models.red_blue import RedBlueModel
from pebble.games.exact.step_models.reversible import ReversibleModel, SpookyModel
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

MODELS: dict[type[Game], Any] = {
    Black: BlackModel,
    BlackWhite: BlackWhiteModel,
    Reversible: ReversibleModel,
    Spooky: SpookyModel,
    InPlace: InPlaceModel,
    RedBlue: RedBlueModel,
    ParallelBlack: ParallelModel,
    ParallelReversible: ParallelModel,
}


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
    from ortools.sat.python import cp_model

    oneshot = isinstance(game, Black) and not game.recompute
    steps = len(board) if oneshot else 3 * len(board) if horizon is None else horizon
    model: Any = MODELS[type(game)](game, board, pebbles, steps)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    if deadline is not None:
        solver.parameters.max_time_in_seconds = max(deadline - time.monotonic(), 0.01)
    if optimal:
        model.model.minimize(sum(weight * var for weight, var in model.costs))
    status = solver.solve(model.model)
    scope = None if oneshot else steps
    if status == cp_model.INFEASIBLE:
        return Found(None, infeasible=True, complete=True, horizon=scope)
    bound = max(0, round(solver.best_objective_bound)) if optimal else 0
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Found(None, bound, horizon=scope)
    strategy = model.strategy(solver.boolean_value)
    return Found(strategy, bound, complete=status == cp_model.OPTIMAL, horizon=scope)
