"""A minimum cut against all choices at its price."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from pebble.problem import Problem
from pebble.solvers.edits.minimum_cuts import MemoryPrice
from pebble.solvers.edits.recompute_once import RecomputeOnce
from tests.graphs import residual_net


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("price", [0.3, 1.0, 3.0])
def test_a_cut_is_the_best_choice_at_its_price(seed: int, price: float) -> None:
    graph = residual_net(2, seed)
    recompute = RecomputeOnce(graph)
    may = Problem(graph, 0).may_repeat
    network = MemoryPrice(recompute, may)
    choice = network.choose(price, np.zeros(len(graph.ops), np.bool_))
    a, forward = graph.arrays, recompute.split + 1
    time_unit = 1 / a.cost.sum()
    byte_unit = price / a.size[(a.producer >= 0) & (a.producer < forward)].sum()

    def total(again: set[int]) -> float:
        needed = {v for op in graph.ops[forward:] for v in op.inputs}
        for i in reversed(range(forward)):
            if i in again and needed.intersection(graph.ops[i].outputs):
                needed.update(graph.ops[i].inputs)
        kept = [v for v in needed if 0 <= a.producer[v] < forward and a.producer[v] not in again]
        used = [i for i in again if needed.intersection(graph.ops[i].outputs)]
        held = sum(0 if a.pinned[v] else int(a.size[v]) for v in kept)
        return sum(int(a.cost[i]) for i in used) * time_unit + held * byte_unit

    free = [i for i in range(forward) if may[i] and recompute.back[i] <= len(graph.ops)]
    best = min(
        total(set(again)) for k in range(len(free) + 1) for again in itertools.combinations(free, k)
    )
    assert total(set(np.flatnonzero(choice.again).tolist())) == pytest.approx(best, rel=1e-6)
