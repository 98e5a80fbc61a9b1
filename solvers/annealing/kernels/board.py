"""The board of the annealer: a graph and a schedule under search as flat arrays.

The schedule lives in slots, most of them empty in between, so that an execution goes in or out
without shifting the others. Per op there is the sorted list of the slots where it runs; per value
and execution of its producer the slot of the copy's last reader. Inserting, removing or moving one
execution then touches only the copies of its outputs and of its inputs. The rules
are those of the referee.
"""

from __future__ import annotations

from typing import Any, NamedTuple

EMPTY = -1
COST, EXCESS, LENGTH, LOG, BEST, FOUND, BEST_PEAK, UNSAVED, BUDGET, SHIFT = range(10)
"""What `Board.number` holds. EXCESS sums the bytes over the budget of all steps; FOUND tells
whether there is a best schedule, UNSAVED whether it is the present one and not yet copied."""
INSERT, REMOVE, MOVE = range(3)
ONE_BLOCK = 40
"""A SHIFT so large that all slots are one block."""


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
