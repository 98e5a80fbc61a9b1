"""The replay of an offloading schedule: which copies are in which memory, and when."""

from __future__ import annotations

import numpy as np

from pebble.errors import InvalidSchedule
from pebble.games.moves import Act, Move
from pebble.graph import IntArray
from pebble.problem import Problem


class CopyTimes:
    """When the copies are there, in one of the two memories."""

    def __init__(self) -> None:
        self.value: list[int] = []
        self.start: list[int] = []
        self.end: list[int] = []
        self.newest: dict[int, int] = {}

    def make(self, value: int, step: int, *, known: bool = True) -> None:
        """A copy comes; reads find it from now on, unless it is a duplicate not known."""
        if known:
            self.newest[value] = len(self.value)
        self.value.append(value)
        self.start.append(step)
        self.end.append(step)

    def use(self, value: int, step: int) -> bool:
        """The newest copy lives through this step; False if there is none."""
        copy = self.newest.get(value)
        if copy is None:
            return False
        self.end[copy] = max(self.end[copy], step)
        return True

    def profile(self, sizes: IntArray, steps: int) -> IntArray:
        """Bytes in this memory in each step."""
        change = np.zeros(steps + 1, np.int64)
        weights = sizes[np.array(self.value, np.int64)]
        np.add.at(change, np.array(self.start, np.int64), weights)
        np.add.at(change, np.array(self.end, np.int64) + 1, -weights)
        return np.cumsum(change)[:-1]


class OffloadReplay:
    """What a schedule of executions, stores and loads does, step by step."""

    def __init__(self, problem: Problem, moves: list[Move]) -> None:
        self.graph, self.moves = problem.graph, moves
        self.may_repeat = problem.may_repeat
        self.fast, self.slow = CopyTimes(), CopyTimes()
        self.ran: set[int] = set()

    def take(self, step: int, move: Move) -> None:
        """Do one step, or raise InvalidSchedule."""
        if move.act is Act.PLACE:
            self._run(step, move.node)
            return
        if move.act not in (Act.STORE, Act.LOAD):
            raise InvalidSchedule(f"Step {step}, {move}: only place, store and load are known.")
        if not 0 <= move.node < len(self.graph.values):
            raise InvalidSchedule(f"Step {step}, {move}: there is no value {move.node}.")
        value = self.graph.values[move.node]
        if value.external:
            raise InvalidSchedule(f"Step {step}, {move}: {value.name!r} is external.")
        if move.act is Act.STORE:
            if not self.fast.use(move.node, step):
                raise InvalidSchedule(
                    f"Step {step} stores {value.name!r}, but no earlier step has made it."
                )
            self.slow.make(move.node, step)
        else:
            if not self.slow.use(move.node, step):
                raise InvalidSchedule(
                    f"Step {step} loads {value.name!r}, but no earlier step has stored it."
                )
            self.fast.make(move.node, step, known=not value.pinned)

    def _run(self, step: int, op: int) -> None:
        if not 0 <= op < len(self.graph.ops):
            raise InvalidSchedule(
                f"Step {step} runs op {op}, but graph {self.graph.name!r} has ops 0 to "
                f"{len(self.graph.ops) - 1}."
            )
        node = self.graph.ops[op]
        if op in self.ran and not self.may_repeat[op]:
            raise InvalidSchedule(f"Step {step} runs op {node.name!r} again, which may run once.")
        for v in node.inputs:
            value = self.graph.values[v]
            if not value.external and not self.fast.use(v, step):
                raise InvalidSchedule(
                    f"Step {step} runs op {node.name!r}, which reads value {value.name!r}, but "
                    "no earlier step has made or loaded it."
                )
        for v in node.outputs:
            duplicate = self.graph.values[v].pinned and op in self.ran
            self.fast.make(v, step, known=not duplicate)
            if self.graph.values[v].pinned and not duplicate:
                self.fast.end[-1] = len(self.moves) - 1
        self.ran.add(op)

    def check_complete(self) -> None:
        """Raise InvalidSchedule if an op has never run."""
        for i, op in enumerate(self.graph.ops):
            if i not in self.ran:
                raise InvalidSchedule(f"Op {op.name!r} never runs.")
