"""Optimal persistent checkpointing of a chain of blocks, each with several ways to be saved.

The dynamic programme of Rotor (Beaumont et al., "Optimal checkpointing for heterogeneous chains",
arXiv 1911.13214) with options per block as in Rockmate (ICML 2023), written from the papers.
Persistent: what is stored stays until its backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pebble.graph import IntArray
from pebble.solvers.chains.weights import Chain

NEVER = 2**61
"""Time of what does not fit."""


@dataclass(frozen=True)
class Action:
    """One action of a plan on the chain.

    ``pass``: run blocks `first`..`last` forward, keep only the input of the block after them.
    ``forward`` / ``backward``: of block `first` with an option.
    ``forget``: drop what blocks `first`..`last` made.
    """

    kind: str
    first: int
    last: int
    option: int = -1


class PersistentTable:
    """Least time for every run of blocks i..l and every amount of memory m.

    The least time is the smaller of: block i with an option, the rest in what that leaves; or a
    pass over i..s-1, the rest from s with its input stored, then i..s-1 again. O(slots x L^3)
    elementary steps of numpy, O(slots x L^2) where all blocks are alike: runs of alike blocks are
    solved once. The choices are found again when a plan is asked for.

    Parameters
    ----------
    chain : Chain
    slots : int
        Memory 0..slots is tabulated.

    Attributes
    ----------
    distinct : int
        Runs of blocks that were solved; the others are like one of them.

    Examples
    --------
    Forward steps for four equal blocks with room for one, two and three states besides the
    first; nothing else needs memory, and a block cannot be kept whole:

    >>> one, none = np.ones((4, 1), np.int64), np.zeros((4, 1), np.int64)
    >>> chain = Chain(one[:, 0], none[:, 0], np.ones((4, 5), np.int64), none, 9 * one, none,
    ...               none, none[:, 0])
    >>> PersistentTable(chain, 3).times().tolist()[1:]
    [10, 8, 7]
    """

    def __init__(self, chain: Chain, slots: int) -> None:
        self.chain, self.slots = chain, slots
        self._grown = np.concatenate(([0], np.cumsum(chain.grown))).tolist()
        self._time = np.concatenate(([0], np.cumsum(chain.time))).tolist()
        self._carry = np.minimum(chain.carry, slots + 1).tolist()
        self._pass_peak = chain.pass_peak.tolist()
        # Each row has slots + 1 leading entries that never fit: a row for less memory is a slice.
        self._rows: dict[tuple[int, int], IntArray] = {}
        self._sum = np.empty(slots + 1, np.int64)
        self._solve()

    def _solve(self) -> None:
        """Fill the rows, shortest runs of blocks first; runs that are alike are solved once.

        Runs are alike if they begin with alike runs, end with alike runs, and carry as much across
        the whole: then all that their rows are made of is equal.
        """
        chain, length = self.chain, len(self.chain)
        weights = np.column_stack(
            [chain.time, chain.pass_peak, chain.extra, chain.hold, chain.forward_peak,
             chain.backward_peak, chain.grown]
        )  # fmt: skip
        known: dict[object, int] = {}
        kind: dict[tuple[int, int], int] = {}
        solved: dict[int, IntArray] = {}
        for span in range(length):
            for first in range(length - span):
                last = first + span
                like: object = weights[first].tobytes()
                if span:
                    like = (kind[first, last - 1], kind[first + 1, last], self._carry[first][last])
                number = kind[first, last] = known.setdefault(like, len(known))
                if number not in solved:
                    self._fill(first, last)
                    solved[number] = self._rows[first, last]
                self._rows[first, last] = solved[number]
        self.distinct = len(solved)

    def times(self) -> IntArray:
        """Least time of the whole chain with 0, 1, ..., slots; `NEVER` where it does not fit."""
        return self._rows[0, len(self.chain) - 1][self.slots + 1 :]

    def _fill(self, i: int, l: int) -> None:  # noqa: E741
        row = np.full(2 * (self.slots + 1), NEVER, np.int64)
        self._rows[i, l] = row
        least = row[self.slots + 1 :]
        for k in range(self.chain.extra.shape[1]):
            need, hold, time = self._option(i, l, k)
            if need <= self.slots:
                rest = np.int64(0) if i == l else self._less(i + 1, l, hold)[need:]
                np.minimum(least[need:], rest + time, out=least[need:])
        need, total = 0, self._sum
        for s in range(i + 1, l + 1):
            need = max(need, self._pass_peak[s - 1])
            if need > self.slots:
                break
            np.add(
                self._less(s, l, self._carry[i][s]),
                self._less(i, s - 1, self._grown[l + 1] - self._grown[s]),
                out=total,
            )
            total += self._time[s] - self._time[i]
            np.minimum(least[need:], total[need:], out=least[need:])

    def _option(self, i: int, l: int, k: int) -> tuple[int, int, int]:  # noqa: E741
        """(memory needed, memory held, time) of block i with option k before i + 1..l."""
        chain, grown = self.chain, self._grown[l + 1] - self._grown[i + 1]
        need = max(int(chain.forward_peak[i, k]), int(chain.backward_peak[i, k]) + grown, 0)
        return need, int(chain.hold[i, k]), int(chain.time[i] + chain.extra[i, k])

    def _less(self, i: int, l: int, used: int) -> IntArray:  # noqa: E741
        """Times of i..l for every amount of memory less `used` slots (more, if negative)."""
        row, width = self._rows[i, l], self.slots + 1
        used = min(used, width)
        if used >= 0:
            return row[width - used : 2 * width - used]
        return row[np.minimum(np.arange(width) + width - used, 2 * width - 1)]

    def actions(self, memory: int) -> Iterator[Action]:
        """The plan for the whole chain within `memory` slots.

        Raises
        ------
        ValueError
            If none fits.
        """
        if self.times()[memory] >= NEVER:
            raise ValueError(f"No plan of the chain fits {memory} slots.")
        yield from self._actions(0, len(self.chain) - 1, memory)

    def _actions(self, i: int, l: int, memory: int) -> Iterator[Action]:  # noqa: E741
        memory = min(memory, self.slots)
        least = int(self._less(i, l, 0)[memory])
        for k in range(self.chain.extra.shape[1]):
            need, hold, time = self._option(i, l, k)
            rest = 0 if i == l else int(self._less(i + 1, l, hold)[memory])
            if need <= memory and rest + time == least:
                yield Action("forward", i, i, k)
                if i < l:
                    yield from self._actions(i + 1, l, memory - hold)
                yield Action("backward", i, i, k)
                return
        for s in range(i + 1, l + 1):
            grown = self._grown[l + 1] - self._grown[s]
            rest = int(self._less(s, l, self._carry[i][s])[memory])
            again = int(self._less(i, s - 1, grown)[memory])
            fits = max(self._pass_peak[i:s]) <= memory
            if fits and rest + again + self._time[s] - self._time[i] == least:
                yield Action("pass", i, s - 1)
                yield from self._actions(s, l, memory - self._carry[i][s])
                yield Action("forget", i, s - 1)
                yield from self._actions(i, s - 1, memory - grown)
                return
        raise AssertionError("a finite time has a choice behind it")
