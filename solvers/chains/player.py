"""A plan of a chain played on its graph: each action runs the ops it needs and no more."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pebble.schedule import Schedule
from pebble.solvers.chains.blocks import Blocks
from pebble.solvers.chains.persistent_table import Action


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
