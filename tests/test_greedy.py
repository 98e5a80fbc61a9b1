"""The fast heuristics: minimum cuts, evicting runs, segments."""

from __future__ import annotations

import itertools
import random
import time

import numpy as np
import pytest

from pebble.graph import Graph, Op, Phase, Value
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import solve
from pebble.solvers.edits.borders import choose_borders
from pebble.solvers.edits.eviction import EvictingRun
from pebble.solvers.edits.halves import crossing_bytes, split_of
from pebble.solvers.edits.minimum_cuts import MemoryPrice
from pebble.solvers.edits.recompute_once import RecomputeOnce
from pebble.solvers.edits.surplus import trimmed


def net(layers: int, rng: random.Random) -> Graph:
    """A forward chain with a skip per layer, and its backward."""
    values = [Value("x", 9, external=True), Value("h", 16)]
    ops, state, saved = [Op("in", 4, (0,), (1,))], 1, []
    for i in range(layers):
        inner = []
        for k in range(3):
            values.append(Value(f"v{i}.{k}", rng.choice((8, 16, 64))))
            reads = (inner[-1],) if inner else (state,)
            inner.append(len(values) - 1)
            ops.append(Op(f"f{i}.{k}", rng.choice((1, 30)), reads, (inner[-1],)))
        values.append(Value(f"s{i}", 16))
        ops.append(Op(f"add{i}", 1, (state, inner[-1]), (len(values) - 1,)))
        saved.append((state, *inner))
        state = len(values) - 1
    values += [Value("loss", 1, pinned=True), Value("seed", 1)]
    ops.append(Op("loss", 1, (state,), (len(values) - 2,)))
    ops.append(Op("boundary", 0, (len(values) - 2,), (len(values) - 1,), recomputable=False))
    boundary, grad = len(ops) - 1, len(values) - 1
    for i in reversed(range(layers)):
        for k, v in enumerate(reversed(saved[i])):
            values.append(Value(f"g{i}.{k}", 16))
            ops.append(Op(f"b{i}.{k}", 20, (grad, v), (len(values) - 1,), phase=Phase.BACKWARD))
            grad = len(values) - 1
    return Graph(ops, values, boundary=boundary)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("price", [0.3, 1.0, 3.0])
def test_a_cut_is_the_best_choice_at_its_price(seed: int, price: float) -> None:
    graph = net(2, random.Random(seed))
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


@pytest.mark.parametrize("seed", range(8))
def test_what_is_recomputed_runs_right_before_what_reads_it(seed: int) -> None:
    rng = random.Random(seed)
    graph = net(3, rng)
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


def test_cheap_large_values_are_recomputed_first() -> None:
    graph = net(12, random.Random(1))
    peak = simulate(graph, Schedule.keep_all(graph)).peak
    overhead = []
    for percent in (90, 75, 60, 45):
        result = solve(Problem(graph, peak * percent // 100), "greedy")
        assert result.trace is not None
        overhead.append(result.trace.recomputed_cost / graph.total_cost)
    assert overhead == sorted(overhead)
    assert overhead[0] < 0.01
    assert overhead[-1] < 0.25


def test_recompute_all_runs_nothing_three_times() -> None:
    graph = net(6, random.Random(2))
    result = solve(Problem(graph, 10**9), "recompute_all")
    assert result.schedule is not None
    counts = result.schedule.executions(len(graph.ops))
    assert counts.max() == 2
    assert result.trace is not None
    saved = [graph.values[v].name for v in result.trace.saved]
    assert set(saved) <= {"loss", "seed"}


@pytest.mark.parametrize("seed", range(5))
def test_evicting_runs_stay_within_a_generous_limit(seed: int) -> None:
    graph = net(8, random.Random(seed))
    problem = Problem(graph, 0)
    peak = simulate(graph, Schedule.keep_all(graph)).peak
    limit = (problem.working_set_bound + 3 * peak) // 4
    schedule = EvictingRun(problem).schedule(limit, most_steps=10**4)
    assert schedule is not None
    assert simulate(graph, schedule).peak <= limit
    assert EvictingRun(problem).schedule(0, most_steps=20) is None


def test_borders_are_the_articulation_points_of_a_chain() -> None:
    graph = net(10, random.Random(3))
    crossing = crossing_bytes(graph, split_of(graph))
    borders = choose_borders(graph, crossing, 10)
    assert len(borders) >= 6
    assert all(graph.ops[p].name.startswith(("add", "in", "loss")) for p in borders)


def test_halves_of_a_graph_without_phases_are_guessed() -> None:
    plain = [Op(str(i), 1, (i - 1,) if i else (), (i,)) for i in range(4)]
    back = [Op(str(4 + i), 1, (3 + i, 3 - i), (4 + i,)) for i in range(4)]
    graph = Graph([*plain, *back], [Value(str(i), 4) for i in range(8)])
    assert split_of(graph) == 3


def test_five_thousand_ops_take_about_a_second() -> None:
    graph = net(620, random.Random(5))
    assert len(graph.ops) > 4900
    problem = Problem(graph, simulate(graph, Schedule.keep_all(graph)).peak // 2)
    started = time.process_time()
    assert solve(problem, "greedy").schedule is not None
    assert time.process_time() - started < 6, "about 1 s on an idle core"


@pytest.mark.parametrize("seed", range(5))
def test_trimming_costs_less_and_takes_no_more_at_the_old_peak(seed: int) -> None:
    graph = net(8, random.Random(seed))
    problem = Problem(graph, 0)
    schedule = RecomputeOnce(graph).schedule(problem.may_repeat.tolist())
    trace = simulate(problem, schedule)
    variants = list(trimmed(problem, schedule, trace, 3))
    assert variants
    costs = [trace.cost, *(simulate(problem, variant).cost for variant in variants)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]
    assert simulate(problem, variants[0]).peak <= trace.peak
