"""The pebbling problem: a graph, a budget in bytes, and what is to be least."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from pebble.errors import InvalidArgument
from pebble.graph import Graph, IntArray


class Objective(StrEnum):
    """What a solver makes least."""

    COST = "cost"
    """Least cost with the peak within the budget (training)."""
    PEAK = "peak"
    """Least peak; the budget is an upper limit only (register allocation)."""


@dataclass(frozen=True)
class Problem:
    """Find a schedule of `graph` whose peak is within `budget`.

    Parameters
    ----------
    graph : Graph
    budget : int
        Bytes for everything that is not external.
    objective : Objective
    recompute : bool
        Whether any op may run more than once.

    Raises
    ------
    InvalidArgument
        If the graph is none, or the budget is no integer or negative.
    """

    graph: Graph
    budget: int
    objective: Objective = Objective.COST
    recompute: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.graph, Graph):
            raise InvalidArgument(
                f"A problem is of a Graph, not of a {type(self.graph).__name__}; make one with "
                "pebble.Graph, or with Graph.from_networkx."
            )
        if isinstance(self.budget, bool) or not isinstance(self.budget, (int, np.integer)):
            raise InvalidArgument(f"The budget is {self.budget!r}; it must be an integer (bytes).")
        if self.budget < 0:
            raise InvalidArgument(f"The budget is {self.budget}; it must not be negative.")
        object.__setattr__(self, "budget", int(self.budget))
        object.__setattr__(self, "objective", Objective(self.objective))

    @cached_property
    def working_sets(self) -> IntArray:
        """Bytes that op i needs at the same time, shape (n_ops,): inputs, outputs, workspace."""
        a = self.graph.arrays
        reads = np.concatenate(([0], np.cumsum(a.size[a.in_val])))
        makes = np.concatenate(([0], np.cumsum(a.size[a.out_val])))
        return a.workspace + np.diff(reads[a.in_ptr]) + np.diff(makes[a.out_ptr])

    @property
    def working_set_bound(self) -> int:
        """The largest working set: no schedule of any order has a lower peak."""
        return int(self.working_sets.max(initial=0))

    @property
    def may_repeat(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which ops may run more than once, shape (n_ops,)."""
        allowed = self.graph.arrays.recomputable
        return allowed.copy() if self.recompute else np.zeros_like(allowed)
