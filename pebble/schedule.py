"""Schedules: an order of executions, and what follows from it alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pebble.errors import InvalidSchedule
from pebble.graph import Graph, IntArray


@dataclass(frozen=True)
class Schedule:
    """Op indices in the order of execution; an op that occurs again is recomputed.

    Nothing else is stored. Each read takes the most recent copy of a value, and a copy is freed
    right after its last read, which is optimal for a given order: retention, the saved set, the
    matrices R and S and the moves all follow.

    Examples
    --------
    >>> Schedule((0, 1, 0, 2)).executions(3)
    array([2, 1, 1])
    """

    order: tuple[int, ...]

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "order", tuple(map(int, self.order)))
        except (TypeError, ValueError):
            raise InvalidSchedule("A schedule is a sequence of op indices (integers).") from None

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        return iter(self.order)

    @classmethod
    def keep_all(cls, graph: Graph) -> Schedule:
        """Every op once, in the reference order."""
        return cls(tuple(range(len(graph.ops))))

    def executions(self, n_ops: int) -> IntArray:
        """How often each op runs, shape (n_ops,)."""
        return np.bincount(np.array(self.order, np.int64), minlength=n_ops)

    def stages(self) -> IntArray:
        """Stage of each step, shape (n_steps,): stage t ends with the t-th first execution."""
        first = _is_first(np.array(self.order, np.int64))
        return np.cumsum(first) - first

    def r_matrix(self, n_ops: int) -> NDArray[np.int64]:
        """Checkmate's R, shape (n_stages, n_ops): how often stage t computes op i."""
        stages = self.stages()
        matrix = np.zeros((int(stages.max(initial=-1)) + 1, n_ops), np.int64)
        np.add.at(matrix, (stages, np.array(self.order, np.int64)), 1)
        return matrix

    def s_matrix(self, graph: Graph) -> NDArray[np.bool_]:
        """Checkmate's S, shape (n_stages, n_values): value v is kept into stage t."""
        kept = retention(graph, self)
        stages = self.stages()
        matrix = np.zeros((int(stages.max(initial=-1)) + 1, len(graph.values)), np.bool_)
        for v, start, end in zip(kept.value, stages[kept.start], stages[kept.end]):
            matrix[start + 1 : end + 1, v] = True
        return matrix


@dataclass(frozen=True)
class Retention:
    """The retention intervals of a schedule: when each copy of each value is in memory.

    Attributes
    ----------
    value, start, end : IntArray, shape (n_copies,)
        The copy of value `value[k]` is live in the steps `start[k]` to `end[k]`, inclusive.
        Sorted by value, then by start.
    """

    value: IntArray
    start: IntArray
    end: IntArray


def retention(graph: Graph, schedule: Schedule | Sequence[int]) -> Retention:
    """Retention intervals of a schedule.

    A copy lives from the step that makes it through the step of its last reader; one that nobody
    reads lives in its own step; the first copy of a pinned value lives to the end, and a later
    one only in its own step.

    Raises
    ------
    InvalidSchedule
        If a step reads a value that no earlier step has made.
    """
    order = np.array(getattr(schedule, "order", schedule), np.int64)
    a, steps = graph.arrays, len(order)
    made_at, made = _expand(order, a.out_ptr, a.out_val)
    read_at, read = _expand(order, a.in_ptr, a.in_val)
    by_key = np.argsort(made * steps + made_at, kind="stable")
    made, made_at = made[by_key], made_at[by_key]
    again = np.zeros(len(made), np.bool_)
    again[1:] = made[1:] == made[:-1]
    live = ~(again & a.pinned[made])  # duplicates of pinned values are never read
    copy_value, copy_start = made[live], made_at[live]
    copy = np.searchsorted(copy_value * steps + copy_start, read * steps + read_at) - 1
    missing = (copy < 0) | (copy_value[copy] != read) if len(copy_value) else read >= 0
    if missing.any():
        k = int(np.flatnonzero(missing)[0])
        step, op = int(read_at[k]), graph.ops[int(order[read_at[k]])]
        raise InvalidSchedule(
            f"Step {step} runs op {op.name!r}, which reads value "
            f"{graph.values[int(read[k])].name!r}, but no earlier step has made it."
        )
    copy_end = copy_start.copy()
    np.maximum.at(copy_end, copy, read_at)
    copy_end[a.pinned[copy_value]] = steps - 1
    end = made_at.copy()
    end[live] = copy_end
    return Retention(made, made_at, end)


@dataclass(frozen=True)
class Scope:
    """The class of schedules that a lower bound speaks of.

    Parameters
    ----------
    fixed_order : bool
        True: first executions in the reference order, and between two of them each op at most
        once, in reference order (the class of Checkmate's formulation). False: any schedule.
    max_executions : int, optional
        At most so many executions of each op; None: any number.
    """

    fixed_order: bool = False
    max_executions: int | None = None

    def __str__(self) -> str:
        text = "fixed order" if self.fixed_order else "free order"
        if self.max_executions is not None:
            text += f", at most {self.max_executions} executions per op"
        return text

    def contains(self, graph: Graph, schedule: Schedule) -> bool:
        """Whether the schedule belongs to this class."""
        order = np.array(schedule.order, np.int64)
        if self.max_executions is not None:
            counts = schedule.executions(len(graph.ops))
            if int(counts.max(initial=0)) > self.max_executions:
                return False
        if not self.fixed_order:
            return True
        first = order[_is_first(order)]
        stages = schedule.stages()
        in_stage = stages[1:] == stages[:-1]
        return bool((np.diff(first) > 0).all() and (np.diff(order)[in_stage] > 0).all())


FREE_ORDER = Scope()
FIXED_ORDER = Scope(fixed_order=True)


def _is_first(order: IntArray) -> NDArray[np.bool_]:
    first = np.zeros(len(order), np.bool_)
    first[np.unique(order, return_index=True)[1]] = True
    return first


def _expand(order: IntArray, pointers: IntArray, items: IntArray) -> tuple[IntArray, IntArray]:
    """(step, item) pairs of a CSR row per step, in the order of the steps."""
    lengths = pointers[order + 1] - pointers[order]
    at = np.repeat(np.arange(len(order)), lengths)
    offset = np.arange(len(at)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return at, items[pointers[order][at] + offset]
