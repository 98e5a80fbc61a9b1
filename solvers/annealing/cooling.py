"""One cooling run of the compiled annealer: what it starts from, its parameters, its outcome."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pebble.graph import IntArray
from pebble.problem import Problem
from pebble.solvers.annealing.kernels import trials as kernel
from pebble.solvers.annealing.kernels.board import (
    BEST,
    BEST_PEAK,
    BUDGET,
    COST,
    EMPTY,
    EXCESS,
    FOUND,
    LENGTH,
    ONE_BLOCK,
    SHIFT,
    Board,
    Net,
)

Order = tuple[int, ...]
BLOCKED = 6_000
"""Slots from which memory is kept by blocks of about their square root."""
CHUNK = 1 << 14
"""Trials between two looks at the clock."""


@dataclass(frozen=True, slots=True)
class Cooling:
    """The parameters of a run.

    Attributes
    ----------
    trials : int
    hot, cold : float
        Temperature at the start and at the end, in units of the cost of running every op once.
    penalty : float
        What an excess of the whole budget during one step weighs, in the same unit.
    adds, removes, chain : int
        Chances, of 256: that a trial adds an execution, that it removes one, and that an add goes
        on to what the added one reads.
    seed : int
    thrift : float
        Weight of the cost; 1, or little where the peak is to be least.
    drop : float
        Above 0: make the peak least, lowering the budget by at least this fraction whenever it
        is met.
    budget : int, optional
        To begin with, instead of that of the problem.
    """

    trials: int
    hot: float
    cold: float
    penalty: float
    adds: int
    removes: int
    chain: int
    seed: int
    thrift: float = 1.0
    drop: float = 0.0
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has found.

    Attributes
    ----------
    best : the best order within the budget, or None
    last : the order it ended with, which may be over the budget
    trials : how many were made
    """

    best: Order | None
    last: Order
    trials: int


def net_of(problem: Problem) -> Net:
    """The graph of a problem as the kernels take it: indices in 32 bits, to be near the core."""

    def small(indices: IntArray) -> NDArray[np.int32]:
        return indices.astype(np.int32)

    a = problem.graph.arrays
    return Net(
        a.cost,
        a.workspace,
        np.ascontiguousarray(problem.may_repeat),
        a.size,
        small(a.producer),
        a.pinned,
        small(a.in_ptr),
        small(a.in_val),
        small(a.out_ptr),
        small(a.out_val),
        small(a.use_ptr),
        small(a.use_op),
    )


def board_of(net: Net, order: Sequence[int] | IntArray, budget: int, seed: int) -> Board:
    """A board that holds `order`, spread over about twice as many slots."""
    n_ops, n_values = len(net.cost), len(net.size)
    start = np.array(order, np.int64)
    slots = 2 * max(len(start), n_ops) + n_ops // 2 + 64
    most = int(np.bincount(start, minlength=n_ops).max(initial=1)) + 6
    number = np.zeros(10, np.int64)
    number[BUDGET] = budget
    number[SHIFT] = ONE_BLOCK if slots < BLOCKED else (slots.bit_length() - 1) // 2
    blocks = ((slots - 1) >> int(number[SHIFT])) + 1
    board = Board(
        slot=np.empty(slots, np.int32),
        memory=np.empty(slots, np.int64),
        taken=np.empty(slots, np.int64),
        count=np.zeros(n_ops, np.int32),
        at=np.zeros((n_ops, most), np.int32),
        end=np.zeros((n_values, most), np.int32),
        undo=np.zeros((256, 3), np.int64),
        number=number,
        random=np.random.SeedSequence(seed).generate_state(1, np.uint64) | np.uint64(1),
        best=np.full(slots, EMPTY, np.int32),
        spare=np.zeros(slots, np.int64),
        base=np.zeros(blocks, np.int64),
        least=np.zeros(blocks, np.int64),
        most=np.zeros(blocks, np.int64),
        filled=np.zeros(blocks, np.int64),
    )
    kernel.lay_out(net, board, start, len(start))
    return board


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
    heat = np.array([cooling.hot, cooling.cold])
    weights = np.array(
        [
            cooling.thrift / max(problem.graph.total_cost, 1),
            cooling.penalty / max(budget, 1),
        ]
    )
    mix = np.array([cooling.adds, cooling.removes, cooling.chain], np.int64)
    if board.number[EXCESS] == 0:
        kernel.record_peak(board)
    aim = BEST_PEAK if cooling.drop > 0 else BEST
    done = 0
    while done < cooling.trials and time.perf_counter() < deadline:
        if board.number[LENGTH] > 0.75 * len(board.slot):
            board = _roomier(net, board)
        last = min(done + CHUNK, cooling.trials)
        kernel.anneal_chunk(
            net, board, done, last, cooling.trials, heat, weights, mix, cooling.drop
        )
        done = last
        if board.number[FOUND] and board.number[aim] <= enough:
            break
    return _outcome(net, board, done, cooling.drop > 0)


def _outcome(net: Net, board: Board, done: int, least_peak: bool) -> Outcome:
    kernel.sweep_idle(net, board)
    number = board.number
    if number[EXCESS] == 0 and not least_peak and number[COST] < number[BEST]:
        kernel.record(board)
    buffer = np.empty(len(board.slot), np.int64)
    last = tuple(buffer[: kernel.dense(board, buffer)].tolist())
    best = tuple(board.best[board.best != EMPTY].tolist()) if number[FOUND] else None
    return Outcome(best, last, done)


def _roomier(net: Net, board: Board) -> Board:
    buffer = np.empty(len(board.slot), np.int64)
    length = kernel.dense(board, buffer)
    new = board_of(net, buffer[:length], int(board.number[BUDGET]), 0)
    new.random[0] = board.random[0]
    for field in (BEST, FOUND, BEST_PEAK):
        new.number[field] = board.number[field]
    new.best[: len(board.best)] = board.best
    return new
