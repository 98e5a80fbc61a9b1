"""Checkmate's stages as integer rows: what runs, what is kept, what is in memory at each step.

Stage t ends with the first execution of op t; before it, earlier ops may run again, each at most
once and in the reference order ("Checkmate", MLSys 2020). This file writes the rows and knows no
solver; memory is that of the referee exactly.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pebble.problem import Problem
from pebble.solvers.integer.rows import FALSE, TRUE, Rows


@dataclass(frozen=True)
class Part:
    """What is left as it is where only some ops are decided anew.

    Attributes
    ----------
    fixed : list of sets
        For each stage, the earlier ops that run again in it whatever is decided.
    touched : frozenset of int
        Values that a decided op makes or reads; the copies of all others stay as they are.
    resting : callable
        (stage, op) -> bytes of untouched copies in memory at that step, without the op's own.
    """

    fixed: Sequence[frozenset[int]]
    touched: frozenset[int]
    resting: Callable[[int, int], int]


class StageModel:
    """The rows of all stages, and the way from a solution to an order and back.

    Parameters
    ----------
    problem : Problem
    candidates : sequence of bool, shape (n_ops,)
        Ops that may run again.
    unit : int
        Sizes and workspaces are divided by this, which must divide them all.
    part : Part, optional
        What is left as it is.

    Attributes
    ----------
    runs : list of dict
        For each stage its ops in order and the literal that says "runs".
    memory : list of (terms, constant)
        What is in memory at each step that may run; `limit_memory` makes rows of them.
    size : int
        Terms in all memory rows.
    """

    def __init__(
        self,
        problem: Problem,
        candidates: Sequence[bool],
        *,
        unit: int = 1,
        part: Part | None = None,
    ) -> None:
        self.problem, self.unit = problem, unit
        a = problem.graph.arrays
        self.rows = Rows()
        self.pinned, self.producer = a.pinned.tolist(), a.producer.tolist()
        self.bytes = (a.size // unit).tolist()
        self.workspace = [w // unit for w in a.workspace.tolist()]
        internal = range(len(self.pinned))
        loose = part.touched if part else frozenset(v for v in internal if not self.pinned[v])
        self.inputs = _rows(a.in_ptr.tolist(), a.in_val.tolist(), loose)
        self.loose = _rows(a.out_ptr.tolist(), a.out_val.tolist(), loose)
        self.outputs = _rows(a.out_ptr.tolist(), a.out_val.tolist())
        self.readers = _rows(a.use_ptr.tolist(), a.use_op.tolist())
        self.fixed: Sequence[frozenset[int]] = part.fixed if part else ()
        self._resting = part.resting if part else self._pinned_before()
        self._prune(np.flatnonzero(candidates).tolist())

    def _pinned_before(self) -> Callable[[int, int], int]:
        """Bytes of pinned values whose first copy is older than a stage."""
        a = self.problem.graph.arrays
        born = np.zeros(len(a.cost) + 1, np.int64)
        kept = np.flatnonzero(a.pinned)
        np.add.at(born, a.producer[kept] + 1, a.size[kept])
        before = np.cumsum(born).tolist()
        return lambda stage, op: int(before[stage])

    # -- what may run and what may be kept ---------------------------------------------------

    def _prune(self, candidates: list[int]) -> None:
        """Leave out runs that nothing reads and copies that nothing needs, stage by stage."""
        self.steps: list[list[int]] = []
        self.entering: list[set[int]] = [set()]
        for t in reversed(range(len(self.outputs))):
            useful = set(self.entering[-1])
            useful.update(self.inputs[t])
            fixed = self.fixed[t] if self.fixed else frozenset()
            steps, earlier = [t], candidates[: bisect_left(candidates, t)]
            for k in reversed(sorted({*earlier, *fixed}) if fixed else earlier):
                if k in fixed or not useful.isdisjoint(self.loose[k]):
                    steps.append(k)
                    useful.update(self.inputs[k])
            self.steps.append(steps[::-1])
            self.entering.append({v for v in useful if self.producer[v] < t})
        self.steps.reverse()
        self.entering.reverse()
        self.size = sum(
            len(steps) * len(enter | leave)
            for steps, enter, leave in zip(self.steps, self.entering, self.entering[1:])
        )

    # -- rows --------------------------------------------------------------------------------

    def build(self) -> None:
        """Write variables and rows; separate because it takes long where `size` is large."""
        self.runs: list[dict[int, int]] = []
        self.memory: list[tuple[list[tuple[int, int]], int]] = []
        self.kept: list[dict[int, int]] = [{}]
        self.chains: list[dict[int, tuple[list[int], list[int]]]] = []
        for t, steps in enumerate(self.steps):
            fixed = {t, *self.fixed[t]} if self.fixed else {t}
            self.runs.append({k: TRUE if k in fixed else self.rows.variable() for k in steps})
            self._carry(t)
            self._account(t)

    def _carry(self, t: int) -> None:
        """Literals of what is in memory between the readers of each value in one stage."""
        rows, runs, kept = self.rows, self.runs[t], self.kept[t]
        leaving: dict[int, int] = {}
        chains: dict[int, tuple[list[int], list[int]]] = {}
        tracked = self.entering[t + 1].union(kept, *(self.inputs[k] for k in runs))
        for v in sorted(tracked):
            made, held = runs.get(self.producer[v], FALSE), kept.get(v, FALSE)
            readers = [r for r in self.readers[v] if r in runs]
            leaves = v in self.entering[t + 1]
            chain = self._chain([runs[r] for r in readers], leaves, made, held)
            if leaves:
                leaving[v] = chain[-1]
            chains[v] = (readers, chain)
            # [Constraint] What is in memory was kept from before or made in this stage, ...
            rows.implies(chain[0], held, made)
            # ... not both, since readers take the new copy, and nothing is kept for nothing.
            rows.add([(1, held), (1, made)], 1)
            rows.implies(held, chain[0])
            for literal, then in pairwise(chain):
                # [Constraint] A copy that is let go does not come back.
                rows.implies(then, literal)
            for reader, literal in zip(readers, chain):
                # [Constraint] Readers find their inputs.
                rows.implies(runs[reader], literal)
        for k, run in runs.items():
            # [Constraint] What runs again is read or kept.
            if run != TRUE:
                rows.implies(run, *(chains[v][1][0] for v in self.loose[k] if v in chains))
        self.kept.append(leaving)
        self.chains.append(chains)

    def _chain(self, readers: list[int], leaves: bool, made: int, held: int) -> list[int]:
        """In memory up to each reader, then at the end of the stage; shares literals."""
        sure = max((k + 1 for k, run in enumerate(readers) if run == TRUE), default=0)
        chain = [TRUE] * sure + [-1] * (len(readers) - sure) + [-1 if leaves else FALSE]
        if made == FALSE and chain[0] == -1:
            chain[0] = held  # kept from before, hence needed
        return [self.rows.variable() if literal == -1 else literal for literal in chain]

    def _account(self, t: int) -> None:
        """What is in memory at each step of one stage that may run."""
        kept = self.kept[t]
        heavy = [(v, *chain) for v, chain in self.chains[t].items() if self.bytes[v]]
        for k, run in self.runs[t].items():
            own = self.workspace[k] + sum(self.bytes[v] for v in self.outputs[k])
            terms = [(own, run)]
            for v, readers, chain in heavy:
                maker = self.producer[v]
                if maker != k:
                    held = kept.get(v, FALSE) if maker > k else chain[bisect_left(readers, k)]
                    if held != FALSE:
                        terms.append((self.bytes[v], held))
            self.memory.append((terms, self._resting(t, k) // self.unit))

    def limit_memory(self, budget: int) -> None:
        """Rows that hold every step within the budget (in bytes)."""
        for terms, always in self.memory:
            self.rows.add(terms, budget // self.unit - always)

    # -- to and fro --------------------------------------------------------------------------

    def cost_terms(self, unit: int) -> list[tuple[int, int]]:
        """(cost / unit, literal) of every run that is a recomputation."""
        cost = self.problem.graph.arrays.cost.tolist()
        return [(cost[k] // unit, lit) for runs in self.runs for k, lit in runs.items() if lit > 1]

    def order(self, true: Sequence[bool]) -> list[int]:
        """The steps of a solution; ``true[literal]`` for every literal."""
        return [k for runs in self.runs for k, literal in runs.items() if true[literal]]

    def hint(self, stages: Sequence[Sequence[int]]) -> list[bool] | None:
        """The solution that runs these ops in each stage, or None if it was pruned away."""
        true = [False] * (self.rows.n_variables + 2)
        true[TRUE] = True
        leaving: set[int] = set()
        for t in reversed(range(len(self.steps))):
            runs = self.runs[t]
            if not runs.keys() >= set(stages[t]):
                return None
            for k in stages[t]:
                true[runs[k]] = True
            entering = set()
            for v, (readers, chain) in self.chains[t].items():
                alive = v in leaving
                true[chain[-1]] |= alive and chain[-1] > 1
                for reader, literal in zip(reversed(readers), reversed(chain[:-1])):
                    alive = alive or true[runs[reader]]
                    true[literal] |= alive and literal > 1
                if alive and not true[runs.get(self.producer[v], FALSE)]:
                    entering.add(v)
            for v, literal in self.kept[t].items():
                true[literal] |= v in entering
            leaving = entering
        return true


def _rows(
    pointers: list[int], items: list[int], only: Container[int] | None = None
) -> list[list[int]]:
    rows = [items[a:b] for a, b in pairwise(pointers)]
    return rows if only is None else [[v for v in row if v in only] for row in rows]
