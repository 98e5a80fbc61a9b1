"""A lower bound on the cost in any order: what must be computed again after one chosen moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solvers.bounds.precedence import ancestors, descendants
from pebble.solvers.edits.halves import split_of

_FOREVER = 2**60
_PRICES = 40
_GRAIN = 2**20
_MOST_FLOW = 2**58


def cost_lower_bound(problem: Problem, moments: int = 4) -> int | None:
    """Cost that every schedule within the budget has, in any order, with any repetitions.

    When op x runs for the first time, its ancestors have all run and its descendants have not.
    Memory holds what x reads and makes, and at most the rest of the budget. Whatever else the
    descendants read of earlier results must be computed again after x, with whatever that needs.
    For a price of memory the cheapest way to divide the earlier results into kept and computed
    again is a minimum cut; its value less the price of the room is a bound (Lagrange), whatever
    the price. The best price is searched for, the bound itself is computed in integers.

    Parameters
    ----------
    problem : Problem
    moments : int
        So many ops x are tried besides the end of the forward half: those during which the most is
        in memory if nothing is computed again.

    Returns
    -------
    int or None
        At least the cost of running every op once. None: no schedule fits the budget.

    Examples
    --------
    A chain of four ops, read again in reverse. With room for three values, two of the four cannot
    be in memory when the backward begins:

    >>> import networkx as nx
    >>> from pebble.graph import Graph
    >>> chain = nx.path_graph(4, create_using=nx.DiGraph)
    >>> chain.add_edges_from([(3, "b3"), ("b3", "b2"), (2, "b2"), ("b2", "b1"), (1, "b1")])
    >>> chain.add_edges_from([(0, "b0"), ("b1", "b0")])
    >>> graph = Graph.from_networkx(chain)
    >>> graph.total_cost, cost_lower_bound(Problem(graph, 3))
    (8, 10)
    """
    best = 0
    for x in _moments(problem, moments):
        extra = _MomentNetwork(problem, x).bound()
        if extra is None:
            return None
        best = max(best, extra)
    return problem.graph.total_cost + best


def _moments(problem: Problem, count: int) -> list[int]:
    """The end of the forward half and the fullest moments of the plain schedule."""
    if not len(problem.graph.ops):
        return []
    live = simulate(problem, Schedule.keep_all(problem.graph)).live
    fullest = np.argsort(-live, kind="stable")[:count].tolist()
    return list(dict.fromkeys([*fullest, split_of(problem.graph)]))


@dataclass(frozen=True)
class _PricedCut:
    """What one price of memory chooses: cost computed again, bytes kept."""

    again: int
    kept: int


class _MomentNetwork:
    """The flow network of the moment when one op runs for the first time."""

    def __init__(self, problem: Problem, x: int) -> None:
        graph, a = problem.graph, problem.graph.arrays
        after = descendants(graph, x)
        before = ancestors(graph, x)
        earlier = ~after
        earlier[x] = False
        ops = np.flatnonzero(earlier)
        made = np.flatnonzero((a.producer >= 0) & earlier[a.producer])
        beside = np.zeros(len(a.size), np.bool_)  # in memory with x anyhow
        beside[a.in_val[a.in_ptr[x] : a.in_ptr[x + 1]]] = True
        beside[a.out_val[a.out_ptr[x] : a.out_ptr[x + 1]]] = True
        pinned = a.pinned & (a.producer >= 0) & before[a.producer] & ~beside
        self.room = problem.budget - int(problem.working_sets[x]) - int(a.size[pinned].sum())
        node_of_op, node_of_value = np.zeros(len(a.cost), np.int64), np.zeros(len(a.size), np.int64)
        node_of_op[ops] = 2 + np.arange(len(ops))
        node_of_value[made] = 2 + len(ops) + np.arange(len(made))
        lengths = np.diff(a.use_ptr)[made]
        first = np.repeat(a.use_ptr[made] - np.cumsum(lengths) + lengths, lengths)
        reader = a.use_op[first + np.arange(len(first))]
        read = np.repeat(node_of_value[made], lengths)
        inner = earlier[reader]
        needed = np.unique(read[after[reader]])
        source = np.zeros(len(ops), np.int64)
        self._tail = np.concatenate([source, node_of_op[a.producer[made]], read[inner], needed])
        self._head = np.concatenate(
            [
                node_of_op[ops],
                node_of_value[made],
                node_of_op[reader[inner]],
                np.ones(len(needed), np.int64),
            ]
        )
        self._cost = np.where(before[ops], a.cost[ops], 0)
        self._frozen = before[ops] & ~problem.may_repeat[ops]
        self._size = np.where(beside[made] | a.pinned[made], 0, a.size[made])
        self._maker = node_of_op[a.producer[made]] - 2
        self._rest = len(self._tail) - len(ops) - len(made)

    def bound(self) -> int | None:
        """The best bound over all prices found; None if what must be kept does not fit."""
        cheap, dear = self._cut(0, 1)[1], self._cut(1, 0)[1]
        if dear.kept > self.room:
            return None
        best = 0
        for _ in range(_PRICES):
            if cheap.kept <= self.room or dear.again <= cheap.again or dear.kept >= cheap.kept:
                break
            up, down = self._integers(dear.again - cheap.again, cheap.kept - dear.kept)
            value, middle = self._cut(up, down)
            best = max(best, value)
            if middle in (cheap, dear):
                break
            if middle.kept > self.room:
                cheap = middle
            else:
                dear = middle
        return best

    def _cut(self, up: int, down: int) -> tuple[int, _PricedCut]:
        """The bound if a byte costs ``up / down``, and what the cut chooses."""
        from ortools.graph.python import max_flow

        forever = np.int64(_FOREVER)
        capacities = np.concatenate(
            [
                np.where(self._frozen, forever, self._cost * down),
                self._size * up,
                np.full(self._rest, forever),
            ]
        )
        flow = max_flow.SimpleMaxFlow()
        flow.add_arcs_with_capacity(self._tail, self._head, capacities)
        if flow.solve(0, 1) != flow.OPTIMAL:
            return 0, _PricedCut(0, 0)
        again = np.ones(2 + len(self._cost) + len(self._size), np.bool_)
        again[np.array(flow.get_source_side_min_cut(), np.int64)] = False
        ops, values = again[2 : 2 + len(self._cost)], again[2 + len(self._cost) :]
        cut = _PricedCut(
            int(self._cost[ops & ~self._frozen].sum()),
            int(self._size[values & ~ops[self._maker]].sum()),
        )
        value = -(-(flow.optimal_flow() - up * self.room) // down) if down else 0
        return value, cut

    def _integers(self, time: int, size: int) -> tuple[int, int]:
        """About ``time / size`` as a quotient that keeps all sums of capacities in range."""
        costs, sizes = int(self._cost.sum()) + 1, int(self._size.sum()) + 1
        down = max(min(_GRAIN, _MOST_FLOW // costs, _MOST_FLOW * size // (sizes * time)), 1)
        return min(time * down // size, _MOST_FLOW // sizes), down
