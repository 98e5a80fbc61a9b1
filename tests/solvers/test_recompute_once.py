"""Schedules that recompute chosen ops once each."""

from __future__ import annotations

import random

import pytest

from pebble.problem import Problem
from pebble.referee import simulate
from pebble.solver import solve
from pebble.solvers.edits.recompute_once import RecomputeOnce
from tests.graphs import residual_net


@pytest.mark.parametrize("seed", range(8))
def test_what_is_recomputed_runs_right_before_what_reads_it(seed: int) -> None:
    rng = random.Random(seed)
    graph = residual_net(3, seed)
    may = Problem(graph, 0).may_repeat
    recompute = RecomputeOnce(graph)
    order = recompute.schedule((may & [rng.random() < 0.6 for _ in may]).tolist()).order
    seen: set[int] = set()
    waiting: list[int] = []
    for op in order:
        if op in seen:
            waiting.append(op)
            continue
        seen.add(op)
        needed = {graph.values[v].name for v in graph.ops[op].inputs}
        for again in reversed(waiting):
            outputs = {graph.values[v].name for v in graph.ops[again].outputs}
            assert needed & outputs, f"{again} runs again too early, before {op}"
            needed |= {graph.values[v].name for v in graph.ops[again].inputs}
        waiting = []
    assert not waiting
    simulate(graph, order)


def test_recompute_all_runs_nothing_three_times() -> None:
    graph = residual_net(6, 2)
    result = solve(Problem(graph, 10**9), "recompute_all")
    assert result.schedule is not None
    counts = result.schedule.executions(len(graph.ops))
    assert counts.max() == 2
    assert result.trace is not None
    makers = [op for op in graph.ops if set(op.outputs) & set(result.trace.saved)]
    assert all(op.name.startswith(("loss", "boundary")) for op in makers)
