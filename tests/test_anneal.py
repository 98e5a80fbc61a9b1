"""The annealer: its board against the referee, its repeatability, its strength."""

from __future__ import annotations

import random
import threading
import time

import networkx as nx
import numpy as np
import pytest

from pebble import compiling
from pebble.errors import InvalidArgument
from pebble.graph import Graph, Op, Value
from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import solve
from pebble.solvers import anneal
from pebble.solvers.annealing import cooling as _cooling
from pebble.solvers.annealing.boards import board_of, net_of
from pebble.solvers.annealing.kernels import board as _kernels
from pebble.solvers.annealing.kernels import trials as kernel


def random_graph(seed: int) -> Graph:
    """Several outputs or none, workspace, pinned values, external values, ops that run once."""
    rng = random.Random(seed)
    values, ops = [Value("outside", 50, external=True)], []
    for i in range(rng.randint(4, 36)):
        reads = tuple(sorted({rng.randrange(len(values)) for _ in range(rng.randint(0, 3))}))
        makes = []
        for _ in range(rng.randint(0, 3) if i > 2 else 1):
            makes.append(len(values))
            size, pinned = rng.randint(0, 20), rng.random() < 0.1
            values.append(Value(f"v{len(values)}", size, pinned=pinned))
        workspace, once = rng.choice((0, 0, 7)), rng.random() < 0.1
        op = Op(f"o{i}", rng.randint(0, 9), reads, tuple(makes), workspace, recomputable=not once)
        ops.append(op)
    return Graph(ops, values)


def training_chain(length: int) -> Graph:
    """Forward ops 0 .. n - 1; backward op i reads the input of forward op i and a gradient."""
    graph = nx.DiGraph()
    graph.add_nodes_from([f"f{i}" for i in range(length)] + [f"b{i}" for i in range(length)])
    for i in range(1, length):
        graph.add_edge(f"f{i - 1}", f"f{i}")
        graph.add_edge(f"b{i - 1}", f"b{i}")
    for i in range(length):
        graph.add_edge(f"f{length - 1 - i}", f"b{i}")
    return Graph.from_networkx(graph)


def live(board: _kernels.Board) -> np.ndarray:
    """Bytes in memory at each step of a board."""
    blocks = np.arange(len(board.slot)) >> board.number[_kernels.SHIFT]
    return (board.memory + board.base[blocks])[board.slot >= 0]


@pytest.mark.parametrize("blocked", [6_000, 0])
@pytest.mark.parametrize("seed", range(12))
def test_the_board_agrees_with_the_referee_after_any_trials(
    seed: int, blocked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cooling, "BLOCKED", blocked)
    graph = random_graph(seed)
    problem, net = Problem(graph, 0), net_of(Problem(graph, 0))
    budget = int(0.7 * simulate(graph, Schedule.keep_all(graph)).peak)
    board = board_of(net, range(len(graph.ops)), budget, seed)
    order = np.zeros(len(board.slot), np.int64)
    heat, weights = np.array([0.5, 0.5]), np.array([1e-2, 1e-2])
    rng, trial, total = random.Random(seed), 0, 2_000
    lengths = set()
    while trial < total:
        stop = trial + rng.randint(1, 20)
        kernel.anneal_chunk(
            net, board, trial, stop, total, heat, weights, np.array([80, 80, 128]), 0.0
        )
        trial = stop
        length = kernel.dense(board, order)
        trace = simulate(problem, order[:length])
        assert trace.cost == board.number[_kernels.COST]
        assert (live(board) == trace.live).all()
        assert board.number[_kernels.EXCESS] == np.maximum(trace.live - budget, 0).sum()
        lengths.add(length)
    kernel.sweep_idle(net, board)
    length = kernel.dense(board, order)
    assert (live(board) == simulate(problem, order[:length]).live).all()
    assert len(lengths) > 1 or not problem.may_repeat.any(), "nothing was ever added or removed"


@pytest.mark.parametrize("objective", Objective)
def test_a_seed_repeats_itself_whatever_the_threads(objective: Objective) -> None:
    problem = Problem(training_chain(20), 10, objective)
    runs = [
        solve(problem, "anneal", seed=seed, iterations=40_000, threads=threads).schedule
        for seed, threads in ((3, 1), (3, 2), (4, 1))
    ]
    assert runs[0] == runs[1]
    assert runs[0] is not None


def test_a_seed_changes_the_trials() -> None:
    problem = Problem(random_graph(5), 10**6, Objective.PEAK)
    runs = {
        solve(problem, "anneal", seed=s, iterations=4_000, time_limit=30).schedule for s in range(6)
    }
    assert len(runs) > 1


def test_it_finds_the_optimal_recomputation_of_a_chain() -> None:
    graph = training_chain(6)  # ten executions of the forward half are not enough below this
    keep = simulate(graph, Schedule.keep_all(graph)).peak
    exact = solve(Problem(graph, keep - 2), "ilp", time_limit=20)
    found = solve(Problem(graph, keep - 2), "anneal", iterations=200_000)
    assert found.objective is not None
    assert exact.objective is not None
    assert graph.total_cost < found.objective <= exact.objective


def test_reordering_alone_is_found_where_nothing_may_run_twice() -> None:
    graph = nx.DiGraph()
    for tree in range(4):  # four wide trees, listed level by level: keep-all holds every leaf
        graph.add_nodes_from([(tree, leaf) for leaf in range(3)])
    for tree in range(4):
        graph.add_edges_from([((tree, leaf), (tree, "root")) for leaf in range(3)])
    problem = Problem(Graph.from_networkx(graph), 4, recompute=False)
    assert simulate(problem, Schedule.keep_all(problem.graph)).peak > 4
    assert solve(problem, "anneal", iterations=100_000).objective == problem.graph.total_cost


def test_a_start_is_never_made_worse() -> None:
    graph = training_chain(12)
    known = solve(Problem(graph, 9), "greedy").schedule
    assert known is not None
    cost = simulate(graph, known).cost
    result = solve(Problem(graph, 9), "anneal", iterations=2, start=known)
    assert result.objective is not None
    assert result.objective <= cost
    broken = Schedule((0,))
    assert solve(Problem(graph, 24), "anneal", iterations=2, start=[broken]).schedule is not None


def test_senseless_options_are_refused() -> None:
    problem = Problem(training_chain(3), 6)
    with pytest.raises(InvalidArgument, match="iterations is 0; it must be at least 1"):
        solve(problem, "anneal", iterations=0)
    with pytest.raises(InvalidArgument, match="threads is 0"):
        solve(problem, "anneal", threads=0)


def test_a_first_compilation_does_not_outlast_the_time_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ready = threading.Event()
    busy = threading.Thread(target=ready.wait, daemon=True)
    busy.start()
    monkeypatch.setattr(anneal, "_compiling", [busy])
    began = time.perf_counter()
    result = solve(Problem(training_chain(4), 8), "anneal", time_limit=0.3)
    assert time.perf_counter() - began < 2
    assert result.schedule is None or len(result.schedule) == 8
    ready.set()
    busy.join()
    assert anneal.compiled(0.0)


def test_without_a_cache_directory_it_still_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(**options: bool) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compiling.numba, "njit", njit)
    assert compiling.entry(len)([0]) == 1
