"""Where things are on a board: executions, readers, empty slots."""

from __future__ import annotations

from pebble.compiling import inner
from pebble.solvers.annealing.kernels.board import EMPTY


@inner
def copy_before(board, op, slot):  # type: ignore[no-untyped-def]
    """Index of the last execution of `op` before `slot`, or -1."""
    c = board.count[op] - 1
    while c >= 0 and board.at[op, c] >= slot:
        c -= 1
    return c


@inner
def last_reader(net, board, value, low, high):  # type: ignore[no-untyped-def]
    """The last slot in low < slot < high that reads `value`; `low` if none does."""
    best = low
    for k in range(net.use_ptr[value], net.use_ptr[value + 1]):
        op = net.use_op[k]
        for c in range(board.count[op] - 1, -1, -1):
            slot = board.at[op, c]
            if slot <= best:
                break
            if slot < high:
                best = slot
                break
    return best


@inner
def first_reader(net, board, op):  # type: ignore[no-untyped-def]
    """The first slot that reads any output of `op`, or the number of slots."""
    best = len(board.slot)
    for j in range(net.out_ptr[op], net.out_ptr[op + 1]):
        value = net.out_val[j]
        for k in range(net.use_ptr[value], net.use_ptr[value + 1]):
            best = min(best, board.at[net.use_op[k], 0])
    return best


@inner
def next_reader(net, board, op, slot):  # type: ignore[no-untyped-def]
    """The first slot after `slot` that reads any output of `op`, or the number of slots."""
    best = len(board.slot)
    for j in range(net.out_ptr[op], net.out_ptr[op + 1]):
        value = net.out_val[j]
        for k in range(net.use_ptr[value], net.use_ptr[value + 1]):
            reader = net.use_op[k]
            for c in range(board.count[reader]):
                at = board.at[reader, c]
                if at > slot:
                    best = min(best, at)
                    break
    return best


@inner
def inputs_ready(net, board, op):  # type: ignore[no-untyped-def]
    """The first slot before which all inputs of `op` have been made once, less one."""
    ready = -1
    for j in range(net.in_ptr[op], net.in_ptr[op + 1]):
        ready = max(ready, board.at[net.producer[net.in_val[j]], 0])
    return ready


@inner
def empty_from(board, start, stop, step):  # type: ignore[no-untyped-def]
    """The first empty slot of range(start, stop, step), or -1; looks at 48 slots."""
    slot, left = start, 48
    while slot != stop and left > 0:
        if board.slot[slot] == EMPTY:
            return slot
        slot += step
        left -= 1
    return -1


@inner
def window(net, board, op, c):  # type: ignore[no-untyped-def]
    """The slots strictly between which execution `c` of `op` may lie."""
    low = inputs_ready(net, board, op)
    if c > 0:
        low = max(low, board.at[op, c - 1])
        high = board.at[op, c + 1] if c + 1 < board.count[op] else len(board.slot)
        return low, high
    high = first_reader(net, board, op)
    if board.count[op] > 1:
        high = min(high, board.at[op, 1])
    return low, high
