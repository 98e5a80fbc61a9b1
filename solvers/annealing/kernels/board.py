"""The annealer's inner loops, compiled: a slot sequence and three primitive moves on it.

The schedule lives in slots, most of them empty in between, so that an execution goes in or out
without shifting the others. Per op there is the sorted list of the slots where it runs; per value
and execution of its producer the slot of the copy's last reader. Inserting, removing or moving one
execution then touches only the copies of its outputs and of its inputs, and each primitive is
undone by another one. The rules are those of the referee.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pebble.compiling import inner

EMPTY = -1
COST, EXCESS, LENGTH, LOG, BEST, FOUND, BEST_PEAK, UNSAVED, BUDGET, SHIFT = range(10)
"""What `Board.number` holds. EXCESS sums the bytes over the budget of all steps; FOUND tells
whether there is a best schedule, UNSAVED whether it is the present one and not yet copied."""
INSERT, REMOVE, MOVE = range(3)
ONE_BLOCK = 40
"""A SHIFT so large that all slots are one block."""
_HUGE = 2**61


class Net(NamedTuple):
    """A graph as the kernels see it: the fields of `GraphArrays`, integers all over."""

    cost: Any
    workspace: Any
    repeat: Any
    size: Any
    producer: Any
    pinned: Any
    in_ptr: Any
    in_val: Any
    out_ptr: Any
    out_val: Any
    use_ptr: Any
    use_op: Any


class Board(NamedTuple):
    """A schedule under search.

    Attributes
    ----------
    slot : shape (n_slots,), the op in each slot or EMPTY
    memory : shape (n_slots,), live bytes, less what `base` says of the slot's block
    taken : shape (n_slots,), -1 where an op runs, else 0 (a mask)
    count : shape (n_ops,), executions of each op
    at : shape (n_ops, most), their slots, ascending
    end : shape (n_values, most), slot of the last reader of each copy
    undo : shape (n, 3), the primitives of the move under trial
    number : see COST and its neighbours
    random : shape (1,), the state of the generator
    best : shape (n_slots,), the slots of the best schedule so far
    spare : shape (n_slots,), room to work in
    base : shape (n_blocks,), bytes in each slot of a block of ``2 ** number[SHIFT]`` slots, besides
    least, most : shape (n_blocks,), bounds on the live bytes where ops of a block run
    filled : shape (n_blocks,), ops that run in a block
    """

    slot: Any
    memory: Any
    taken: Any
    count: Any
    at: Any
    end: Any
    undo: Any
    number: Any
    random: Any
    best: Any
    spare: Any
    base: Any
    least: Any
    most: Any
    filled: Any


# -- random numbers: the state belongs to the board, so that threads do not share it ------------


@inner
def draw(board):  # type: ignore[no-untyped-def]
    """A random 62-bit integer (xorshift64*)."""
    x = board.random[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    board.random[0] = x
    return np.int64((x * np.uint64(2685821657736338717)) >> np.uint64(2))


@inner
def below(board, n):  # type: ignore[no-untyped-def]
    """A random integer in 0 .. n - 1."""
    return ((draw(board) >> 31) * n) >> 31


@inner
def uniform(board):  # type: ignore[no-untyped-def]
    """A random float in (0, 1)."""
    return (float(draw(board) >> 10) + 0.5) * (1.0 / 4503599627370496.0)


# -- the memory profile -----------------------------------------------------------------------


@inner
def add_bytes(board, low, high, size):  # type: ignore[no-untyped-def]
    """Add `size` to the memory of the slots `low` to `high`, inclusive; keep EXCESS."""
    if size == 0 or high < low:
        return
    shift = board.number[SHIFT]
    first, last = low >> shift, high >> shift
    if first == last:
        _add_part(board, first, low, high, size)
        return
    _add_part(board, first, low, ((first + 1) << shift) - 1, size)
    for block in range(first + 1, last):
        _add_block(board, block, size)
    _add_part(board, last, last << shift, high, size)


@inner
def _add_part(board, block, low, high, size):  # type: ignore[no-untyped-def]
    """The same for slots of one block."""
    room = board.number[BUDGET] - board.base[block]
    change = 0
    for k in range(np.uint64(low), np.uint64(high + 1)):  # unsigned, or it does not vectorise
        old = board.memory[k]
        new = old + size
        board.memory[k] = new
        change += (max(new - room, 0) - max(old - room, 0)) & board.taken[k]
    board.number[EXCESS] += change
    if size > 0:
        board.most[block] += size
    else:
        board.least[block] += size


@inner
def _add_block(board, block, size):  # type: ignore[no-untyped-def]
    """The same for a whole block: its slots are looked at only if some are near the budget."""
    budget = board.number[BUDGET]
    least, most = board.least[block], board.most[block]
    if least + min(size, 0) >= budget:
        board.number[EXCESS] += size * board.filled[block]
    elif most + max(size, 0) > budget:
        room, shift = budget - board.base[block], board.number[SHIFT]
        low, high = block << shift, min((block + 1) << shift, len(board.slot))
        change, least, most = 0, _HUGE, -_HUGE
        for k in range(np.uint64(low), np.uint64(high)):
            old, mask = board.memory[k] - room, board.taken[k]
            change += (max(old + size, 0) - max(old, 0)) & mask
            least = min(least, (old & mask) | (_HUGE & ~mask))
            most = max(most, (old & mask) | (-_HUGE & ~mask))
        board.number[EXCESS] += change
        least += budget
        most += budget
    board.base[block] += size
    board.least[block] = least + size
    board.most[block] = most + size


@inner
def occupy(net, board, op, slot):  # type: ignore[no-untyped-def]
    board.taken[slot] = -1
    board.slot[slot] = op
    board.memory[slot] += net.workspace[op]
    block = slot >> board.number[SHIFT]
    live = board.memory[slot] + board.base[block]
    board.filled[block] += 1
    board.least[block] = min(board.least[block], live)
    board.most[block] = max(board.most[block], live)
    board.number[EXCESS] += max(live - board.number[BUDGET], 0)


@inner
def vacate(net, board, op, slot):  # type: ignore[no-untyped-def]
    block = slot >> board.number[SHIFT]
    live = board.memory[slot] + board.base[block]
    board.number[EXCESS] -= max(live - board.number[BUDGET], 0)
    board.memory[slot] -= net.workspace[op]
    board.taken[slot] = 0
    board.slot[slot] = EMPTY
    board.filled[block] -= 1


@inner
def measure(board):  # type: ignore[no-untyped-def]
    """Excess, and the bounds of the blocks, from the memory of all slots."""
    budget, shift = board.number[BUDGET], board.number[SHIFT]
    excess = 0
    for block in range(len(board.base)):
        base, filled, least, most = board.base[block], 0, _HUGE, -_HUGE
        for slot in range(block << shift, min((block + 1) << shift, len(board.slot))):
            if board.taken[slot]:
                live = board.memory[slot] + base
                excess += max(live - budget, 0)
                least, most = min(least, live), max(most, live)
                filled += 1
        board.filled[block] = filled
        board.least[block] = least
        board.most[block] = most
    board.number[EXCESS] = excess


# -- where things are ---------------------------------------------------------------------------


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


# -- reads --------------------------------------------------------------------------------------


@inner
def begin_read(net, board, value, slot):  # type: ignore[no-untyped-def]
    if net.pinned[value]:
        return
    c = copy_before(board, net.producer[value], slot)
    end = board.end[value, c]
    if end < slot:
        add_bytes(board, end + 1, slot, net.size[value])
        board.end[value, c] = slot


@inner
def cease_read(net, board, value, slot):  # type: ignore[no-untyped-def]
    if net.pinned[value]:
        return
    maker = net.producer[value]
    c = copy_before(board, maker, slot)
    if board.end[value, c] == slot:
        end = last_reader(net, board, value, board.at[maker, c], slot)
        add_bytes(board, end + 1, slot, -net.size[value])
        board.end[value, c] = end


# -- the three primitives -----------------------------------------------------------------------


@inner
def insert(net, board, op, slot):  # type: ignore[no-untyped-def]
    """Run `op`, which runs elsewhere already, in the empty `slot` too."""
    count = board.count[op]
    c = copy_before(board, op, slot) + 1
    for k in range(count, c, -1):
        board.at[op, k] = board.at[op, k - 1]
    board.at[op, c] = slot
    board.count[op] = count + 1
    occupy(net, board, op, slot)
    for j in range(net.out_ptr[op], net.out_ptr[op + 1]):
        value = net.out_val[j]
        size = net.size[value]
        if net.pinned[value]:
            add_bytes(board, slot, board.at[op, 1] if c == 0 else slot, size)
            continue
        for k in range(count, c, -1):
            board.end[value, k] = board.end[value, k - 1]
        if c > 0 and board.end[value, c - 1] > slot:
            board.end[value, c] = board.end[value, c - 1]
            end = last_reader(net, board, value, board.at[op, c - 1], slot)
            board.end[value, c - 1] = end
            add_bytes(board, end + 1, slot - 1, -size)
        else:
            board.end[value, c] = slot
            add_bytes(board, slot, slot, size)
    for j in range(net.in_ptr[op], net.in_ptr[op + 1]):
        begin_read(net, board, net.in_val[j], slot)
    board.number[COST] += net.cost[op]
    board.number[LENGTH] += 1


@inner
def remove(net, board, op, c):  # type: ignore[no-untyped-def]
    """Drop execution `c` of `op`. The first one may go only if nothing reads it."""
    slot = board.at[op, c]
    count = board.count[op] - 1
    for j in range(net.in_ptr[op], net.in_ptr[op + 1]):
        cease_read(net, board, net.in_val[j], slot)
    for j in range(net.out_ptr[op], net.out_ptr[op + 1]):
        value = net.out_val[j]
        size = net.size[value]
        if net.pinned[value]:
            add_bytes(board, slot, board.at[op, 1] if c == 0 else slot, -size)
            continue
        if c > 0 and board.end[value, c] > slot:
            end = board.end[value, c - 1]
            board.end[value, c - 1] = board.end[value, c]
            add_bytes(board, end + 1, slot - 1, size)
        else:
            add_bytes(board, slot, slot, -size)
        for k in range(c, count):
            board.end[value, k] = board.end[value, k + 1]
    for k in range(c, count):
        board.at[op, k] = board.at[op, k + 1]
    board.count[op] = count
    vacate(net, board, op, slot)
    board.number[COST] -= net.cost[op]
    board.number[LENGTH] -= 1


@inner
def move_read(net, board, value, old, new):  # type: ignore[no-untyped-def]
    """A reader of `value` goes from slot `old` to slot `new`."""
    if net.pinned[value]:
        return
    maker = net.producer[value]
    c = copy_before(board, maker, old)
    if c != copy_before(board, maker, new):
        cease_read(net, board, value, old)
        begin_read(net, board, value, new)
        return
    end = board.end[value, c]
    if end < new:
        add_bytes(board, end + 1, new, net.size[value])
        board.end[value, c] = new
    elif end == old:
        other = max(last_reader(net, board, value, board.at[maker, c], old), new)
        add_bytes(board, other + 1, old, -net.size[value])
        board.end[value, c] = other


@inner
def move_copy(net, board, op, value, c, old, new):  # type: ignore[no-untyped-def]
    """Execution `c` of the producer of `value` has gone from slot `old` to slot `new`."""
    size = net.size[value]
    end = board.end[value, c]
    before = board.end[value, c - 1] if c > 0 else -1
    if new > old:
        if c > 0 and end > old:  # what read it in between falls back to the copy before
            back = last_reader(net, board, value, max(board.at[op, c - 1], old), new)
            if back > old:
                add_bytes(board, before + 1, back, size)
                board.end[value, c - 1] = back
        if end >= new:
            add_bytes(board, old, new - 1, -size)
        else:
            add_bytes(board, old, end, -size)
            add_bytes(board, new, new, size)
            board.end[value, c] = new
        return
    late = end if end > old else new
    if before > new:  # the copy before hands its later readers over
        back = last_reader(net, board, value, board.at[op, c - 1], new)
        add_bytes(board, back + 1, before, -size)
        board.end[value, c - 1] = back
        late = max(late, before)
    if end > old:
        add_bytes(board, new, old - 1, size)
    else:
        add_bytes(board, new, late, size)
        add_bytes(board, old, old, -size)
    board.end[value, c] = late


@inner
def move(net, board, op, c, new):  # type: ignore[no-untyped-def]
    """Shift execution `c` of `op` to the empty slot `new`, within the bounds of `window`."""
    old = board.at[op, c]
    vacate(net, board, op, old)
    occupy(net, board, op, new)
    for j in range(net.in_ptr[op], net.in_ptr[op + 1]):
        move_read(net, board, net.in_val[j], old, new)
    board.at[op, c] = new
    for j in range(net.out_ptr[op], net.out_ptr[op + 1]):
        value = net.out_val[j]
        if not net.pinned[value]:
            move_copy(net, board, op, value, c, old, new)
        elif c > 0:
            add_bytes(board, old, old, -net.size[value])
            add_bytes(board, new, new, net.size[value])
        elif new < old:
            add_bytes(board, new, old - 1, net.size[value])
        else:
            add_bytes(board, old, new - 1, -net.size[value])


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


# -- trials: primitives that can be taken back --------------------------------------------------


@inner
def note(board, kind, op, slot):  # type: ignore[no-untyped-def]
    k = board.number[LOG]
    board.undo[k, 0] = kind
    board.undo[k, 1] = op
    board.undo[k, 2] = slot
    board.number[LOG] = k + 1


@inner
def take_back(net, board):  # type: ignore[no-untyped-def]
    """Undo the trial."""
    for k in range(board.number[LOG] - 1, -1, -1):
        kind, op, slot = board.undo[k, 0], board.undo[k, 1], board.undo[k, 2]
        if kind == INSERT:
            remove(net, board, op, copy_before(board, op, slot + 1))
        elif kind == REMOVE:
            insert(net, board, op, slot)
        else:  # the slot it came from, and (next entry) the execution it was
            move(net, board, op, slot // len(board.slot), slot % len(board.slot))
    board.number[LOG] = 0
