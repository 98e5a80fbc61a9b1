"""Whole schedules on a board: laid out, spread evenly, read off, kept as the best one."""

from __future__ import annotations

import numpy as np

from pebble.compiling import entry, inner
from pebble.solvers.annealing.kernels.board import (
    BEST,
    BEST_PEAK,
    BUDGET,
    COST,
    EMPTY,
    FOUND,
    LENGTH,
    LOG,
    UNSAVED,
)
from pebble.solvers.annealing.kernels.profile import peak_of, set_budget


@entry
def lay_out(net, board, order, length):  # type: ignore[no-untyped-def]
    """Set the board to the dense sequence ``order[:length]``, spread evenly. False: no room."""
    slots, most = len(board.slot), board.at.shape[1]
    board.slot[:] = EMPTY
    board.taken[:] = 0
    board.memory[:] = 0
    board.base[:] = 0
    board.count[:] = 0
    board.number[LENGTH] = length
    board.number[LOG] = 0
    if length > slots:
        return False
    cost = 0
    for k in range(length):
        op = order[k]
        slot = k * slots // length
        c = board.count[op]
        if c == most:
            return False
        board.slot[slot] = op
        board.taken[slot] = -1
        board.at[op, c] = slot
        board.count[op] = c + 1
        cost += net.cost[op]
        for j in range(net.in_ptr[op], net.in_ptr[op + 1]):
            value = net.in_val[j]
            if not net.pinned[value]:
                board.end[value, board.count[net.producer[value]] - 1] = slot
        for j in range(net.out_ptr[op], net.out_ptr[op + 1]):
            board.end[net.out_val[j], c] = slot
    board.number[COST] = cost
    _profile(net, board)
    return True


@inner
def _profile(net, board):  # type: ignore[no-untyped-def]
    """Memory from the copies: differences first, then their running sum."""
    slots = len(board.slot)
    for value in range(len(net.size)):
        op = net.producer[value]
        if op < 0:
            continue
        for c in range(board.count[op]):
            start = board.at[op, c]
            end = board.end[value, c]
            if net.pinned[value]:
                end = slots - 1 if c == 0 else start
            board.memory[start] += net.size[value]
            if end + 1 < slots:
                board.memory[end + 1] -= net.size[value]
    live = 0
    for slot in range(slots):
        live += board.memory[slot]
        board.memory[slot] = live
    for slot in range(slots):
        if board.slot[slot] != EMPTY:
            board.memory[slot] += net.workspace[board.slot[slot]]
    set_budget(board, board.number[BUDGET])


@entry
def dense(board, order):  # type: ignore[no-untyped-def]
    """Write the sequence into `order`; its length."""
    length = 0
    for slot in range(len(board.slot)):
        if board.slot[slot] != EMPTY:
            order[length] = board.slot[slot]
            length += 1
    return length


@inner
def spread(net, board):  # type: ignore[no-untyped-def]
    """Space the executions evenly again."""
    length = dense(board, board.spare)
    lay_out(net, board, board.spare, length)


@entry
def record(board):  # type: ignore[no-untyped-def]
    """Keep the present schedule as the best one."""
    board.number[UNSAVED] = 0
    board.number[FOUND] = 1
    board.number[BEST] = board.number[COST]
    for slot in range(np.uint64(len(board.slot))):
        board.best[slot] = board.slot[slot]


@entry
def record_peak(board):  # type: ignore[no-untyped-def]
    """The same where the peak is what counts."""
    record(board)
    board.number[BEST_PEAK] = peak_of(board)
