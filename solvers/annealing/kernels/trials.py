"""Compiled annealing on the board of `board`: the trial moves, and the loop that cools."""

from __future__ import annotations

from math import log

import numpy as np

from pebble.compiling import entry, inner
from pebble.solvers.annealing.kernels.board import (
    BEST,
    BEST_PEAK,
    BUDGET,
    COST,
    EMPTY,
    EXCESS,
    FOUND,
    INSERT,
    LENGTH,
    LOG,
    MOVE,
    REMOVE,
    SHIFT,
    UNSAVED,
    below,
    copy_before,
    empty_from,
    first_reader,
    inputs_ready,
    insert,
    last_reader,
    measure,
    move,
    next_reader,
    note,
    remove,
    take_back,
    uniform,
    window,
)

SPREAD_EVERY = 1 << 17
"""Trials between two even spreads of the executions over the slots."""
_NEAR = 64
"""Slots that a nearby move goes at most."""
_CLOSE = 6
"""Slots: what is read again so soon is not worth computing again."""
_ROOM = 200
_NO_LIMIT = 2.0**61


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


@inner
def set_budget(board, budget):  # type: ignore[no-untyped-def]
    """Measure the excess against another budget."""
    board.number[BUDGET] = budget
    measure(board)


@inner
def peak_of(board):  # type: ignore[no-untyped-def]
    peak = 0
    for slot in range(len(board.slot)):
        live = board.memory[slot] + board.base[slot >> board.number[SHIFT]]
        peak = max(peak, live & board.taken[slot])
    return peak


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


# -- the trials -----------------------------------------------------------------------------------


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


# -- cooling --------------------------------------------------------------------------------------


@inner
def _adjust(weights, share):  # type: ignore[no-untyped-def]
    """Raise the price of excess while the budget is never met, lower it while it is met often."""
    if share == 0.0:
        weights[1] *= 1.08
    elif share > 0.4:
        weights[1] *= 0.95


@inner
def _attempt(net, board, warmth, weights, mix):  # type: ignore[no-untyped-def]
    """One trial; whether it was made and accepted. What it did is in the log."""
    number = board.number
    cost, excess = number[COST], number[EXCESS]
    number[LOG] = 0
    kind = below(board, 256)
    allowed = -warmth * log(uniform(board))
    if kind < mix[0]:
        spare = (allowed + weights[1] * excess) / weights[0]  # excess does not fall below 0
        made = try_add(net, board, mix[2], cost + int(min(spare, _NO_LIMIT)))
    elif kind < mix[0] + mix[1]:
        made = try_remove(net, board)
    else:
        made = try_move(net, board)
    if not made:
        return False
    more = weights[0] * (number[COST] - cost) + weights[1] * (number[EXCESS] - excess)
    if more > allowed:
        take_back(net, board)
        return False
    return True


@entry
def anneal_chunk(net, board, first, last, total, heat, weights, mix, drop):  # type: ignore[no-untyped-def]
    """Run the trials `first` to `last` of a cooling run of `total`.

    Parameters
    ----------
    heat : float array, shape (2,)
        Temperature at the start and at the end; it falls geometrically.
    weights : float array, shape (2,)
        What one unit of cost and one byte of excess weigh. In the second half of the run the
        price of excess is adjusted, so that the search ends at the edge of the budget.
    mix : int array, shape (3,)
        Chances, of 256: of an add, of a remove, and of a chain link in an add.
    drop : float
        Above 0, the peak is what is to be least: whenever the budget is met, it becomes the peak
        less this fraction.
    """
    number = board.number
    fall = log(heat[1] / heat[0])
    warmth = heat[0]
    block = max(total // 512, 512)
    within = 0
    for trial in range(first, last):
        if trial & 255 == 0:
            warmth = heat[0] * 2.718281828459045 ** (fall * trial / total)
        if trial % block == block - 1:
            if 2 * trial > total:
                _adjust(weights, within / block)
            within = 0
        within += number[EXCESS] == 0
        if trial & (SPREAD_EVERY - 1) == SPREAD_EVERY - 1:
            spread(net, board)
        state = board.random[0]
        if not _attempt(net, board, warmth, weights, mix):
            continue
        better = number[EXCESS] == 0 and (number[COST] < number[BEST] or number[FOUND] == 0)
        if drop > 0.0 and number[EXCESS] == 0:
            record_peak(board)
            lower = max(1, int(number[BEST_PEAK] * drop))
            set_budget(board, number[BEST_PEAK] - lower)
        elif better:
            number[BEST], number[FOUND], number[UNSAVED] = number[COST], 1, 1
        elif number[UNSAVED] and (number[EXCESS] > 0 or number[COST] > number[BEST]):
            # This step leaves the best: back, keep it, and again.
            take_back(net, board)
            record(board)
            board.random[0] = state
            _attempt(net, board, warmth, weights, mix)
        number[LOG] = 0
    if number[UNSAVED]:
        record(board)
