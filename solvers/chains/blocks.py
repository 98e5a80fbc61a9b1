"""A training graph seen as a chain of blocks: where it is cut, and what each block weighs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pebble.graph import IntArray
from pebble.problem import Problem
from pebble.referee import Trace, simulate
from pebble.solvers.chains.weights import Chain
from pebble.solvers.edits.borders import choose_borders, crossers
from pebble.solvers.edits.halves import crossing_bytes
from pebble.solvers.edits.minimum_cuts import MemoryPrice, PricedChoice
from pebble.solvers.edits.recompute_once import RecomputeOnce

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Blocks:
    """The blocks of a graph.

    Attributes
    ----------
    recompute : RecomputeOnce
    block : IntArray, shape (n_ops,)
        Block of a forward op; of a backward op, the block whose backward it belongs to.
    reach : IntArray, shape (n_ops,)
        Block of the last forward reader of a forward op.
    forced : bool array, shape (n_ops,)
        Forward ops whose results stay from the first run to the last reader: those that may not
        run again, and those that half of all blocks read.
    options : list of bool array
        For each option the ops that are computed again in the backward of their block.
    """

    recompute: RecomputeOnce
    block: IntArray
    reach: IntArray
    forced: BoolArray
    options: list[BoolArray]

    def __len__(self) -> int:
        return int(self.block[: self.recompute.split + 1].max(initial=-1)) + 1

    @classmethod
    def cut(cls, problem: Problem, recompute: RecomputeOnce, count: int, *, options: int) -> Blocks:
        """Cut the forward half into about `count` blocks, each with at most `options` options."""
        graph, split = problem.graph, recompute.split
        borders = choose_borders(graph, crossing_bytes(graph, split), count)
        block = np.searchsorted(np.array(borders, np.int64), np.arange(len(graph.ops)))
        gone = np.minimum(np.array(recompute.gone), split)
        reach = block[gone]
        forced = ~problem.may_repeat | (reach - block > max(len(borders) / 2, 2))
        forced[split + 1 :] = False
        block[split + 1 :] = _backward_blocks(recompute, block, forced)
        keep = crossers(recompute, borders) | forced
        curve = MemoryPrice(recompute, problem.may_repeat).frontier(keep, 2 * options)
        return cls(recompute, block, reach, forced, _spread(curve, options))

    def crossing(self, s: int) -> BoolArray:
        """Forward ops with results that cross into block s, shape (n_ops,)."""
        forward = np.arange(len(self.block)) <= self.recompute.split
        return (self.block < s) & (self.reach >= s) & forward & ~self.forced

    def chain(self, problem: Problem, unit: int) -> Chain:
        """The weights of the blocks in slots of `unit` bytes, measured by the referee.

        One schedule for each option, with every border saved, is replayed. What a block needs is
        the most that is live in its forward or backward beyond what spans it.
        """
        graph, a, length = problem.graph, problem.graph.arrays, len(self)
        op_bytes = np.bincount(
            a.producer[a.producer >= 0],
            weights=np.where(a.pinned, 0, a.size)[a.producer >= 0],
            minlength=len(graph.ops),
        )
        forward = np.arange(len(graph.ops)) <= self.recompute.split
        free = np.flatnonzero(forward & ~self.forced)
        time = np.bincount(self.block[free], weights=a.cost[free], minlength=length)
        measured = [self._measure(problem, again) for again in self.options]
        hold, ahead, back = (np.stack([m[x] for m in measured], axis=1) for x in range(3))
        extra = np.stack([self._extra(problem, again) for again in self.options], axis=1)
        carry = np.zeros((length, length + 1))
        for s in range(1, length):
            ops = np.flatnonzero(self.crossing(s))
            sums = np.bincount(self.block[ops], weights=op_bytes[ops], minlength=length)
            carry[:, s] = np.cumsum(sums[::-1])[::-1]
        inputs = np.array([carry[0, k] for k in range(length)])
        return Chain(
            time=time.astype(np.int64),
            pass_peak=_slots(ahead[:, -1] + inputs, unit),
            carry=_slots(carry, unit),
            extra=extra,
            hold=_slots(hold, unit),
            forward_peak=_slots(ahead, unit),
            backward_peak=_slots(back, unit),
            grown=np.floor(measured[0][3] / unit).astype(np.int64),
        )

    def _extra(self, problem: Problem, again: BoolArray) -> IntArray:
        ops = np.flatnonzero(again)
        cost = problem.graph.arrays.cost[ops]
        return np.bincount(self.block[ops], weights=cost, minlength=len(self)).astype(np.int64)

    def _measure(self, problem: Problem, again: BoolArray) -> tuple[IntArray, ...]:
        """(hold, forward peak, backward peak, grown) of every block in bytes."""
        a, length = problem.graph.arrays, len(self)
        schedule = self.recompute.schedule(again.tolist())
        trace = simulate(problem, schedule)
        order = np.array(schedule.order, np.int64)
        split = int(np.flatnonzero(order == self.recompute.split)[0])
        kept, size = trace.kept, a.size[trace.kept.value]
        maker = order[kept.start]
        block, ahead = self.block[maker], kept.start <= split
        forced = self.forced[maker] & ahead
        pinned = a.pinned[kept.value]
        backward = np.flatnonzero(order > self.recompute.split)
        result = np.zeros((4, length), np.int64)
        for k in range(length):
            steps = np.flatnonzero(self.block[order[: split + 1]] == k)
            low, high = int(steps[0]), int(steps[-1])
            mine = ahead & (block == k) & ~forced & ~pinned
            result[0, k] = size[mine & (kept.end > high)].sum()
            beside = ((kept.start < low) & (kept.end > high)) | forced
            result[1, k] = _most(trace, size, low, high, beside)
            later = backward[self.block[order[backward]] >= k]
            own = backward[self.block[order[backward]] == k]
            if not len(own):
                continue  # nothing of the backward reads this block
            above = backward[self.block[order[backward]] > k]
            low = int(above[-1]) + 1 if len(above) else split + 1
            high = int(later[-1])
            other = ahead & (block < k) & (kept.start < low)
            beside = ((kept.start < low) & (kept.end > high)) | forced | other
            result[2, k] = _most(trace, size, low, high, beside)
            born = pinned & (kept.start >= low) & (kept.start <= high)
            died = forced & (kept.end >= low) & (kept.end <= high)
            result[3, k] = size[born].sum() - size[died].sum()
        return tuple(result)


def _most(trace: Trace, size: IntArray, low: int, high: int, beside: BoolArray) -> int:
    """Most live bytes in steps low..high without the copies `beside`."""
    start, end = trace.kept.start, trace.kept.end
    inside = beside & (start <= high) & (end >= low)
    delta = np.zeros(max(high - low, 0) + 2, np.int64)
    np.add.at(delta, np.maximum(start[inside], low) - low, size[inside])
    np.add.at(delta, np.minimum(end[inside], high) - low + 1, -size[inside])
    return int((trace.live[low : high + 1] - np.cumsum(delta)[:-1]).max(initial=0))


def _backward_blocks(recompute: RecomputeOnce, block: IntArray, forced: BoolArray) -> IntArray:
    """The backward follows the blocks down: each op belongs to the highest block that it reads."""
    split, current = recompute.split, int(block[recompute.split])
    found = []
    for makers in recompute.makers[split + 1 :]:
        read = [int(block[p]) for p in makers if p <= split and not forced[p]]
        if read:
            current = min(current, max(read))
        found.append(current)
    return np.array(found, np.int64)


def _spread(curve: list[PricedChoice], most: int) -> list[BoolArray]:
    """At most so many different choices, both ends among them, evenly in what they save."""
    saved = np.array([choice.saved for choice in curve], np.float64)
    targets = np.linspace(saved[0], saved[-1], most) if len(curve) > most else saved
    picked = {int(np.abs(saved - target).argmin()) for target in targets} | {len(curve) - 1}
    different = {curve[k].again.tobytes(): curve[k].again for k in sorted(picked)}
    return list(different.values())


def _slots(amounts: NDArray[np.float64] | IntArray, unit: int) -> IntArray:
    slots: IntArray = np.ceil(np.asarray(amounts) / unit).astype(np.int64)
    return slots
