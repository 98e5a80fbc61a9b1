"""The log of a trial, and the way back."""

from __future__ import annotations

from pebble.compiling import inner
from pebble.solvers.annealing.kernels.board import INSERT, LOG, REMOVE
from pebble.solvers.annealing.kernels.executions import insert, move, remove
from pebble.solvers.annealing.kernels.places import copy_before


@inner
def note(board, kind, op, slot):  # type: ignore[no-untyped-def]
    """Write a primitive of the trial into the log."""
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
