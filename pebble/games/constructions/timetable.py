"""The timetable of a reversible strategy, in which pairs of toggles can be left out."""

from __future__ import annotations

import random
import time
from bisect import bisect

import numpy as np

from pebble.games.board import Board

_Change = tuple[int, int, int, int]
"""Node, the times of the two toggles left out, and what that adds to the load between them."""


class Timetable:
    """Toggles at fixed times, some of them left out, and the pebbles on the board after each."""

    def __init__(self, board: Board, nodes: list[int]) -> None:
        self.board = board
        self.times: list[list[int]] = [[] for _ in board.names]
        self.load = np.zeros(len(nodes), np.int64)
        on = 0
        for t, v in enumerate(nodes):
            self.times[v].append(t)
            on += 1 if len(self.times[v]) % 2 else -1
            self.load[t] = on

    def nodes(self) -> list[int]:
        """The toggles that are left, in order."""
        return [v for _, v in sorted((t, v) for v, row in enumerate(self.times) for t in row)]

    def gaps(self) -> list[tuple[int, int, int]]:
        """(node, time of a removal, time of its next placement)."""
        return [
            (v, row[k], row[k + 1])
            for v, row in enumerate(self.times)
            for k in range(1, len(row) - 1, 2)
        ]

    def keep(self, v: int, i: int, j: int, pebbles: int) -> bool:
        """Leave out the removal at i and the placement at j, if that still is a gap and fits."""
        k = bisect(self.times[v], i) - 1
        if k < 1 or self.times[v][k : k + 2] != [i, j] or k % 2 == 0:
            return False
        done: list[_Change] = []
        self._leave_out(v, k, 1, done)
        if self.load[i:j].max() <= pebbles:
            return True
        for u, a, b, change in reversed(done):
            self.times[u] = sorted([*self.times[u], a, b])
            self.load[a:b] -= change
        return False

    def _leave_out(self, v: int, k: int, change: int, done: list[_Change]) -> None:
        """Leave out two toggles of v, and those of others that served only them."""
        stack = self._cut(v, k, change, done)
        while stack:
            u, t = stack.pop()
            k = self._idle(u, t)
            if k >= 0:
                stack += self._cut(u, k, -1, done)

    def _cut(self, v: int, k: int, change: int, done: list[_Change]) -> list[tuple[int, int]]:
        """Leave out toggles k and k + 1 of v; returns whom they needed, and when."""
        a, b = self.times[v][k : k + 2]
        del self.times[v][k : k + 2]
        self.load[a:b] += change
        done.append((v, a, b, change))
        return [(u, t) for u in self.board.preds[v] for t in (a, b)]

    def _idle(self, u: int, t: int) -> int:
        """Which toggle brought the pebble that u carries at a time, if nothing needs it, or -1."""
        row = self.times[u]
        k = bisect(row, t) - 1
        if k < 0 or k % 2 or k + 1 == len(row):
            return -1
        a, b = row[k], row[k + 1]
        for w in self.board.succs[u]:
            if bisect(self.times[w], a) != bisect(self.times[w], b):
                return -1
        return k


def filled(
    board: Board, nodes: list[int], pebbles: int, rng: random.Random, deadline: float
) -> list[int]:
    """Keep what fits between its removal and its next placement, short times first."""
    table = Timetable(board, nodes)
    changed = True
    while changed:
        changed = False
        gaps = table.gaps()
        gaps.sort(key=lambda gap: (gap[2] - gap[1]) * rng.uniform(0.5, 1.5))
        for v, i, j in gaps:
            changed |= table.keep(v, i, j, pebbles)
        if time.monotonic() > deadline:
            break
    return table.nodes()
