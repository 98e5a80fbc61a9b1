"""Deep networks as chains of blocks: optimal nested checkpointing, then the graph's own replay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from pebble.graph import IntArray
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress, register
from pebble.solvers.chains.blocks import Blocks
from pebble.solvers.chains.persistent_table import NEVER, Action, PersistentTable
from pebble.solvers.edits.incumbent import best_of
from pebble.solvers.edits.recompute_once import RecomputeOnce

MOST_BLOCKS = 72
OPS_PER_BLOCK = (48, 22, 11, 5)
"""Forward ops of a block, on average: finer blocks nest deeper, coarser ones choose better."""
FINEST = 24
"""Most blocks of the finest kind, which costs time and rarely wins on large graphs."""


@register("chain")
def chain(
    problem: Problem,
    *,
    time_limit: float = 60.0,
    report: Callable[[Progress], None] | None = None,
    slots: int = 500,
    options: int = 8,
    levels: int = 32,
) -> Answer:
    """Rotor's dynamic programme on blocks of the forward half, with options for each block.

    The forward half is cut where few bytes cross, into several numbers of blocks. A block is
    saved whole, computed again whole, or something between (minimum cuts at several prices); the
    programme nests checkpoints to any depth and is optimal among persistent schedules of the
    chain. One table holds the plans for all amounts of memory; `levels` of them are turned into
    schedules of the graph, the referee replays each and the cheapest that fits is the answer.
    Which plans are tried does not depend on the budget: a larger budget never costs more.

    Parameters
    ----------
    slots : int
        Units that memory is counted in.
    options : int
        Most options of a block.
    levels : int
        Most plans that are replayed for each number of blocks.
    """
    family = _family(problem, slots=slots, options=options, levels=levels)
    return best_of(problem, family, "chain", time_limit=time_limit, report=report)


def _family(problem: Problem, *, slots: int, options: int, levels: int) -> Iterator[Schedule]:
    yield Schedule.keep_all(problem.graph)
    if not problem.may_repeat.any():
        return
    recompute = RecomputeOnce(problem.graph)
    unit = max(-(-simulate(problem, Schedule.keep_all(problem.graph)).peak // slots), 1)
    seen: set[tuple[int, int]] = set()
    for count in block_counts(recompute.split + 1):
        blocks = Blocks.cut(problem, recompute, count, options=options)
        key = (len(blocks), int(blocks.block.sum()))
        if len(blocks) > 1 and key not in seen:
            seen.add(key)
            table = PersistentTable(blocks.chain(problem, unit), slots)
            for memory in _memories(table.times(), levels):
                yield unroll(blocks, table.actions(memory))


def block_counts(n: int) -> list[int]:
    """Numbers of blocks to try on n forward ops, fewest first.

    Examples
    --------
    >>> block_counts(100), block_counts(3000)
    ([2, 4, 9, 20], [62, 72])
    """
    counts = [min(n // ops, MOST_BLOCKS) for ops in OPS_PER_BLOCK[:-1]]
    finest = n // OPS_PER_BLOCK[-1]
    return sorted({c for c in (*counts, finest if finest <= FINEST else 0) if c > 1})


def _memories(times: IntArray, levels: int) -> list[int]:
    """Amounts of memory at which the plan changes, at most `levels` of them, most memory first."""
    fits = np.flatnonzero(times < NEVER)
    steps = [int(m) for k, m in enumerate(fits) if k == 0 or times[m] < times[m - 1]]
    if len(steps) > levels:
        picked = np.linspace(0, len(steps) - 1, levels).round().astype(int)
        steps = [steps[k] for k in picked]
    return steps[::-1]


def unroll(blocks: Blocks, actions: Iterable[Action]) -> Schedule:
    """The schedule of the graph that follows a plan of its chain."""
    player = _Player(blocks)
    for action in actions:
        player.play(action)
    return Schedule(tuple(player.order))


class _Player:
    """Runs ops for each action, with what their block needs at that moment and no more."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks, r = blocks, blocks.recompute
        self.makers, self.split = r.makers, r.split
        n = len(r.makers)
        self.order: list[int] = []
        self.done, self.alive = bytearray(n), bytearray(n)
        self.forced = blocks.forced.tolist()
        self.members: list[list[int]] = [[] for _ in range(len(blocks))]
        self.backward: list[list[int]] = [[] for _ in range(len(blocks))]
        for i, k in enumerate(blocks.block.tolist()):
            (self.members if i <= self.split else self.backward)[k].append(i)
        self.crossing = [
            np.flatnonzero(blocks.crossing(s)).tolist() for s in range(len(blocks) + 1)
        ]
        self.needed = [self._needed(again) for again in blocks.options]

    def _needed(self, again: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[bool]:
        """Ops that an option keeps: the backward or a recomputed op reads them."""
        needed = [back < len(self.makers) for back in self.blocks.recompute.back]
        for i in np.flatnonzero(again).tolist():
            for p in self.makers[i]:
                needed[p] = True
        return [x and not y for x, y in zip(needed, again.tolist())]

    def play(self, action: Action) -> None:
        first, last = action.first, action.last
        if action.kind == "pass":
            cross = [p for p in self.crossing[last + 1] if self.blocks.block[p] >= first]
            self._advance(first, last, cross)
        elif action.kind == "forward":
            needed = self.needed[action.option]
            cross = [p for p in self.crossing[first + 1] if self.blocks.block[p] == first]
            self._advance(first, first, [*cross, *(p for p in self.members[first] if needed[p])])
        elif action.kind == "backward":
            for i in self.backward[first]:
                self._bring(self.makers[i])
                self._run(i)
        else:
            self._forget(first, last, ())

    def _advance(self, first: int, last: int, targets: list[int]) -> None:
        """Run blocks forward and keep the targets; the first time every op runs."""
        new = [p for k in range(first, last + 1) for p in self.members[k] if not self.done[p]]
        if new:
            for p in new:
                self._bring(self.makers[p])
                self._run(p)
        self._bring(targets)
        self._forget(first, last, targets)

    def _forget(self, first: int, last: int, targets: Iterable[int]) -> None:
        for k in range(first, last + 1):
            for p in self.members[k]:
                if not self.forced[p]:
                    self.alive[p] = 0
        for p in targets:
            self.alive[p] = 1

    def _run(self, op: int) -> None:
        self.order.append(op)
        self.done[op] = self.alive[op] = 1

    def _bring(self, ops: list[int]) -> None:
        """Compute again what is not in memory, with what it needs, in the reference order."""
        stack = [p for p in ops if not self.alive[p]]
        found = set()
        while stack:
            p = stack.pop()
            if p not in found:
                found.add(p)
                stack.extend(q for q in self.makers[p] if not self.alive[q])
        for p in sorted(found):
            self._run(p)
