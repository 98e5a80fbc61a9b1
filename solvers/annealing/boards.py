"""Boards for the kernels: a graph and an order laid out in slots, with room between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pebble.graph import IntArray
from pebble.problem import Problem
from pebble.solvers.annealing.kernels.board import (
    BEST,
    BEST_PEAK,
    BUDGET,
    EMPTY,
    FOUND,
    ONE_BLOCK,
    SHIFT,
    Board,
    Net,
)
from pebble.solvers.annealing.kernels.layout import dense, lay_out

BLOCKED = 6_000
"""Slots from which memory is kept by blocks of about their square root."""


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
    lay_out(net, board, start, len(start))
    return board


def roomier(net: Net, board: Board) -> Board:
    """A board with more slots that goes on where this one is."""
    buffer = np.empty(len(board.slot), np.int64)
    length = dense(board, buffer)
    new = board_of(net, buffer[:length], int(board.number[BUDGET]), 0)
    new.random[0] = board.random[0]
    for field in (BEST, FOUND, BEST_PEAK):
        new.number[field] = board.number[field]
    new.best[: len(board.best)] = board.best
    return new
