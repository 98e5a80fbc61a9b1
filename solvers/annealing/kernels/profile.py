"""The memory profile of a board: bytes by slot, bounds by block, excess over the budget."""

from __future__ import annotations

import numpy as np

from pebble.compiling import inner
from pebble.solvers.annealing.kernels.board import BUDGET, EMPTY, EXCESS, SHIFT

_HUGE = 2**61


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
    """`op` runs in the empty `slot`, whose memory now counts."""
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
    """`op` no longer runs in `slot`."""
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


@inner
def set_budget(board, budget):  # type: ignore[no-untyped-def]
    """Measure the excess against another budget."""
    board.number[BUDGET] = budget
    measure(board)


@inner
def peak_of(board):  # type: ignore[no-untyped-def]
    """Most bytes in memory where an op runs."""
    peak = 0
    for slot in range(len(board.slot)):
        live = board.memory[slot] + board.base[slot >> board.number[SHIFT]]
        peak = max(peak, live & board.taken[slot])
    return peak
