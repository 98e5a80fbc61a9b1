"""The three primitives: one execution goes in, goes out, or moves.

Each touches only the copies of its op's outputs and inputs, and is undone by another one.
"""

from __future__ import annotations

from pebble.compiling import inner
from pebble.solvers.annealing.kernels.board import COST, LENGTH
from pebble.solvers.annealing.kernels.places import copy_before, last_reader
from pebble.solvers.annealing.kernels.profile import add_bytes, occupy, vacate


@inner
def begin_read(net, board, value, slot):  # type: ignore[no-untyped-def]
    """`slot` reads `value`: the copy before it stays until then."""
    if net.pinned[value]:
        return
    c = copy_before(board, net.producer[value], slot)
    end = board.end[value, c]
    if end < slot:
        add_bytes(board, end + 1, slot, net.size[value])
        board.end[value, c] = slot


@inner
def cease_read(net, board, value, slot):  # type: ignore[no-untyped-def]
    """`slot` no longer reads `value`: its copy stays for the reader before."""
    if net.pinned[value]:
        return
    maker = net.producer[value]
    c = copy_before(board, maker, slot)
    if board.end[value, c] == slot:
        end = last_reader(net, board, value, board.at[maker, c], slot)
        add_bytes(board, end + 1, slot, -net.size[value])
        board.end[value, c] = end


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
