"""The trial moves: an execution is shifted, added with what it needs, or dropped."""

from __future__ import annotations

from pebble.compiling import entry, inner
from pebble.solvers.annealing.kernels.board import (
    COST,
    EMPTY,
    INSERT,
    LOG,
    MOVE,
    REMOVE,
)
from pebble.solvers.annealing.kernels.executions import insert, move, remove
from pebble.solvers.annealing.kernels.places import (
    copy_before,
    empty_from,
    first_reader,
    inputs_ready,
    last_reader,
    next_reader,
    window,
)
from pebble.solvers.annealing.kernels.randomness import below
from pebble.solvers.annealing.kernels.undo import note, take_back

_NEAR = 64
"""Slots that a nearby move goes at most."""
_CLOSE = 6
"""Slots: what is read again so soon is not worth computing again."""
_ROOM = 200


@inner
def _any_slot(board):  # type: ignore[no-untyped-def]
    slots = len(board.slot)
    slot = below(board, slots)
    while board.slot[slot] == EMPTY:
        slot += 1
        if slot == slots:
            slot = 0
    return slot


@inner
def try_move(net, board):  # type: ignore[no-untyped-def]
    """Shift one execution: to its producers, to its next reader, nearby, or anywhere allowed."""
    slot = _any_slot(board)
    op = board.slot[slot]
    c = copy_before(board, op, slot + 1)
    low, high = window(net, board, op, c)
    if high - low <= 2:
        return False
    kind = below(board, 16)
    if kind < 4:
        ready = low
        for j in range(net.in_ptr[op], net.in_ptr[op + 1]):
            maker = net.producer[net.in_val[j]]
            ready = max(ready, board.at[maker, copy_before(board, maker, slot)])
        goal = empty_from(board, ready + 1, high, 1)
    elif kind < 8:
        goal = empty_from(board, min(high, next_reader(net, board, op, slot)) - 1, low, -1)
    else:
        first, last = low + 1, high - 1
        if kind < 13:
            first, last = max(first, slot - _NEAR), min(last, slot + _NEAR)
        goal = first + below(board, last - first + 1)
        if board.slot[goal] != EMPTY:
            goal = empty_from(board, goal, high, 1)
    if goal < 0:
        return False
    note(board, MOVE, op, c * len(board.slot) + slot)
    move(net, board, op, c, goal)
    return True


@inner
def _run_again(net, board, op, before, most_cost):  # type: ignore[no-untyped-def]
    """Run `op` once more in the nearest empty slot in front of `before`; that slot, or -1."""
    most = board.at.shape[1]
    if not net.repeat[op] or board.count[op] == most or board.number[LOG] >= _ROOM:
        return -1
    if board.number[COST] + net.cost[op] > most_cost:
        return -1
    c = copy_before(board, op, before)
    low = max(inputs_ready(net, board, op), board.at[op, c])
    slot = empty_from(board, before - 1, low, -1)
    if slot >= 0:
        note(board, INSERT, op, slot)
        insert(net, board, op, slot)
    return slot


@inner
def _gap(net, board, value, slot):  # type: ignore[no-untyped-def]
    """Slots between `slot` and what read or made `value` last before it."""
    maker = net.producer[value]
    made = board.at[maker, copy_before(board, maker, slot)]
    return slot - last_reader(net, board, value, made, slot)


@inner
def try_add(net, board, chain, most_cost):  # type: ignore[no-untyped-def]
    """Compute an input of some execution again right before it.

    `chain` (of 256) is the chance to do the same, in turn, for what that computation reads and
    what was dead by then. A schedule dearer than `most_cost` is given up at once.
    """
    slot = _any_slot(board)
    op = board.slot[slot]
    reads = net.in_ptr[op + 1] - net.in_ptr[op]
    if reads == 0:
        return False
    value = net.in_val[net.in_ptr[op] + below(board, reads)]
    if net.pinned[value]:
        return False
    maker = net.producer[value]
    if _gap(net, board, value, slot) <= _CLOSE:
        return False
    at = _run_again(net, board, maker, slot, most_cost)
    if at < 0:
        return False
    done = board.number[LOG] - 1
    while done < board.number[LOG]:
        op, at = board.undo[done, 1], board.undo[done, 2]
        done += 1
        for j in range(net.in_ptr[op], net.in_ptr[op + 1]):
            value = net.in_val[j]
            maker = net.producer[value]
            if net.pinned[value] or not net.repeat[maker] or below(board, 256) >= chain:
                continue
            kept = board.end[value, copy_before(board, maker, at)] > at
            if not kept and _gap(net, board, value, at) > _CLOSE:
                if board.number[COST] + net.cost[maker] > most_cost:
                    take_back(net, board)
                    return False
                _run_again(net, board, maker, at, most_cost)
    return True


@inner
def _idle(net, board, op, c):  # type: ignore[no-untyped-def]
    """Whether nothing reads execution `c` of `op`, so that it may go."""
    if board.count[op] == 1:
        return False
    if c == 0:
        return first_reader(net, board, op) > board.at[op, 1]
    for j in range(net.out_ptr[op], net.out_ptr[op + 1]):
        value = net.out_val[j]
        if not net.pinned[value] and board.end[value, c] > board.at[op, c]:
            return False
    return True


@inner
def _drop(net, board, op, c):  # type: ignore[no-untyped-def]
    """Remove execution `c` of `op`, and then what nothing reads any more."""
    done = board.number[LOG]
    note(board, REMOVE, op, board.at[op, c])
    remove(net, board, op, c)
    while done < board.number[LOG] and board.number[LOG] < _ROOM:
        op, slot = board.undo[done, 1], board.undo[done, 2]
        done += 1
        for j in range(net.in_ptr[op], net.in_ptr[op + 1]):
            maker = net.producer[net.in_val[j]]
            if board.count[maker] > 1:
                copy = copy_before(board, maker, slot)
                if copy >= 0 and _idle(net, board, maker, copy):
                    note(board, REMOVE, maker, board.at[maker, copy])
                    remove(net, board, maker, copy)


@inner
def try_remove(net, board):  # type: ignore[no-untyped-def]
    """Drop one of several executions of an op."""
    slots = len(board.slot)
    for _ in range(24):
        slot = below(board, slots)
        op = board.slot[slot]
        if op == EMPTY or board.count[op] == 1:
            continue
        c = copy_before(board, op, slot + 1)
        if c == 0 and not _idle(net, board, op, 0):
            c = 1
        _drop(net, board, op, c)
        return True
    return False


@entry
def sweep_idle(net, board):  # type: ignore[no-untyped-def]
    """Drop every execution that nothing reads."""
    for op in range(len(net.cost)):
        for c in range(board.count[op] - 1, -1, -1):
            if c < board.count[op] and _idle(net, board, op, c):
                _drop(net, board, op, c)
                board.number[LOG] = 0
