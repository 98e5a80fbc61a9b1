"""Which forward ops to recompute at a price for memory: a minimum cut for each price."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pebble.graph import IntArray
from pebble.solvers.edits.recompute_once import RecomputeOnce

BoolArray = NDArray[np.bool_]
_SCALE = 10**11
_FOREVER = 2**52
_DEAREST = 1000.0


@dataclass(frozen=True)
class PricedChoice:
    """The ops recomputed at some price, shape (n_ops,), and the shares that this trades."""

    again: BoolArray
    time: int
    saved: int

    @property
    def share(self) -> float:
        """Cost of what is recomputed, as a fraction of the graph's."""
        return self.time / _SCALE

    def total(self, price: float) -> float:
        """What the minimum cut makes least."""
        return self.time + price * self.saved


class MemoryPrice:
    """The trade of recomputation against saved bytes, as a flow network.

    For a price p the minimum cut chooses the ops to recompute so that
    (their share of the graph's cost) + p x (saved share of the bytes the forward half makes) is
    least. Saved are the values that the backward half or a recomputed op reads and that are not
    recomputed themselves. Nodes: source 0 ("stays as it was"), sink 1 ("computed again"), the
    ops of the forward half, their values.

    Parameters
    ----------
    recompute : RecomputeOnce
    may_repeat : bool array, shape (n_ops,)
    """

    def __init__(self, recompute: RecomputeOnce, may_repeat: BoolArray) -> None:
        graph, a = recompute.graph, recompute.graph.arrays
        self._n_ops, self._forward = len(graph.ops), recompute.split + 1
        self._may_repeat = may_repeat[: self._forward]
        values = np.flatnonzero((a.producer >= 0) & (a.producer < self._forward))
        node = np.zeros(len(graph.values), np.int64)
        node[values] = 2 + self._forward + np.arange(len(values))
        lengths = np.diff(a.use_ptr)[values]
        first = np.repeat(a.use_ptr[values] - np.cumsum(lengths) + lengths, lengths)
        readers = a.use_op[first + np.arange(len(first))]
        read = np.repeat(node[values], lengths)
        inside = readers < self._forward
        needed = np.unique(read[~inside])
        self._maker = a.producer[values]
        source = np.zeros(self._forward, np.int64)
        sink = np.ones(len(needed), np.int64)
        ops = 2 + np.arange(self._forward)
        self._tail = np.concatenate([source, 2 + self._maker, read[inside], needed])
        self._head = np.concatenate([ops, node[values], 2 + readers[inside], sink])
        self._costs = _shares(a.cost[: self._forward], int(a.cost.sum()))
        held = np.where(a.pinned[values], 0, a.size[values])
        self._bytes = _shares(held, int(a.size[values].sum()))
        self._rest = len(self._tail) - self._forward - len(values)

    def choose(self, price: float, keep: BoolArray) -> PricedChoice:
        """The best choice at this price that recomputes none of the ops in `keep`."""
        from ortools.graph.python import max_flow

        forward = self._forward
        frozen = keep[:forward] | ~self._may_repeat
        saves = np.minimum(price * self._bytes, _FOREVER // 4).astype(np.int64)
        capacities = np.concatenate(
            [np.where(frozen, _FOREVER, self._costs), saves, np.full(self._rest, _FOREVER)]
        )
        flow = max_flow.SimpleMaxFlow()
        flow.add_arcs_with_capacity(self._tail, self._head, capacities)
        flow.solve(0, 1)
        again = np.ones(2 + forward + len(self._bytes), np.bool_)
        again[np.array(flow.get_source_side_min_cut(), np.int64)] = False
        ops, values = again[2 : 2 + forward], again[2 + forward :]
        return PricedChoice(
            np.append(ops & ~frozen, np.zeros(self._n_ops - forward, np.bool_)),
            int(self._costs[ops].sum()),
            int(self._bytes[values & ~ops[self._maker]].sum()),
        )

    def ends(self, keep: BoolArray) -> tuple[PricedChoice, PricedChoice]:
        """The choices for memory that costs nothing and for memory that costs very much."""
        return self.choose(0.0, keep), self.choose(_DEAREST, keep)

    def between(
        self, low: PricedChoice, high: PricedChoice, keep: BoolArray
    ) -> PricedChoice | None:
        """A choice that is best at the price where these two are equally good, if any is."""
        if low.time >= high.time or low.saved <= high.saved:
            return None
        price = (high.time - low.time) / (low.saved - high.saved)
        middle = self.choose(price, keep)
        better = middle.total(price) < low.total(price) * (1 - 1e-9) - 1
        return middle if better else None

    def frontier(self, keep: BoolArray, most: int) -> list[PricedChoice]:
        """The choices that are best at some price, from the cheapest in time to the dearest.

        They lie on a convex curve of time against bytes. It is searched from its two ends: the
        price at which two neighbours are equally good either shows a choice between them or
        proves that there is none.

        Parameters
        ----------
        keep : bool array, shape (n_ops,)
            Ops that are not recomputed at any price.
        most : int
            Stop at so many choices.
        """
        ends = self.ends(keep)
        found, gaps = list(ends), [ends]
        while gaps and len(found) < most:
            low, high = gaps.pop(0)
            middle = self.between(low, high, keep)
            if middle is not None:
                found.append(middle)
                gaps += [(low, middle), (middle, high)]
        return sorted(found, key=lambda choice: choice.time)


def _shares(amounts: IntArray, total: int) -> IntArray:
    """Amounts as integers out of `_SCALE`; rounding is harmless, the referee judges."""
    return np.ceil(amounts.astype(np.float64) * (_SCALE / max(total, 1))).astype(np.int64)
