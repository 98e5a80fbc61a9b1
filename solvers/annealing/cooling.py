"""One cooling run of the compiled annealer."""

from __future__ import annotations

import time

import numpy as np

from pebble.problem import Problem
from pebble.solvers.annealing.boards import board_of, roomier
from pebble.solvers.annealing.kernels.board import (
    BEST,
    BEST_PEAK,
    COST,
    EMPTY,
    EXCESS,
    FOUND,
    LENGTH,
    Board,
    Net,
)
from pebble.solvers.annealing.kernels.chunk import Course, anneal_chunk
from pebble.solvers.annealing.kernels.layout import dense, record, record_peak
from pebble.solvers.annealing.kernels.trials import sweep_idle
from pebble.solvers.annealing.runs import Cooling, Order, Outcome

CHUNK = 1 << 14
"""Trials between two looks at the clock."""


def cool(
    problem: Problem,
    net: Net,
    order: Order,
    cooling: Cooling,
    *,
    deadline: float = float("inf"),
    enough: int = 0,
) -> Outcome:
    """Anneal from `order`.

    Parameters
    ----------
    deadline : float
        On `time.perf_counter`; looked at after every `CHUNK` trials.
    enough : int
        The objective at which to stop.
    """
    budget = problem.budget if cooling.budget is None else cooling.budget
    board = board_of(net, order, budget, cooling.seed)
    course = Course(
        total=cooling.trials,
        heat=np.array([cooling.hot, cooling.cold]),
        weights=np.array(
            [
                cooling.thrift / max(problem.graph.total_cost, 1),
                cooling.penalty / max(budget, 1),
            ]
        ),
        mix=np.array([cooling.adds, cooling.removes, cooling.chain], np.int64),
        drop=cooling.drop,
    )
    if board.number[EXCESS] == 0:
        record_peak(board)
    aim = BEST_PEAK if cooling.drop > 0 else BEST
    done = 0
    while done < cooling.trials and time.perf_counter() < deadline:
        if board.number[LENGTH] > 0.75 * len(board.slot):
            board = roomier(net, board)
        last = min(done + CHUNK, cooling.trials)
        anneal_chunk(net, board, done, last, course)
        done = last
        if board.number[FOUND] and board.number[aim] <= enough:
            break
    return _outcome(net, board, done, cooling.drop > 0)


def _outcome(net: Net, board: Board, done: int, least_peak: bool) -> Outcome:
    sweep_idle(net, board)
    number = board.number
    if number[EXCESS] == 0 and not least_peak and number[COST] < number[BEST]:
        record(board)
    buffer = np.empty(len(board.slot), np.int64)
    last = tuple(buffer[: dense(board, buffer)].tolist())
    best = tuple(board.best[board.best != EMPTY].tolist()) if number[FOUND] else None
    return Outcome(best, last, done)
