"""The portfolio and the least peak: always a plan, soon, better with time, never past its limit."""

from __future__ import annotations

import random
import time

import networkx as nx
import pytest

from pebble.errors import InvalidArgument
from pebble.graph import Graph, Op, Phase, Value
from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import FIXED_ORDER, Schedule
from pebble.solver import Answer, Progress, Status, solve
from pebble.solvers import auto
from pebble.solvers.annealing.search import Search
from pebble.solvers.bounds.peak import peak_lower_bound
from pebble.solvers.minpeak import minimum_budget


class Builder:
    """Ops and values by name."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.values: list[Value] = []

    def add(self, name: str, cost: int, reads: list[int], makes: list[int], **more: object) -> int:
        """Index of the first value made."""
        first = len(self.values)
        pinned = bool(more.pop("pinned", False))
        for size in makes:
            self.values.append(Value(f"v{len(self.values)}", size, pinned=pinned))
        outputs = tuple(range(first, len(self.values)))
        name = f"{name}{len(self.ops)}"
        self.ops.append(Op(name, cost, tuple(dict.fromkeys(reads)), outputs, **more))  # type: ignore[arg-type]
        return first


def transformer(layers: int, *, dropout: bool = False) -> Graph:
    """Joint graph of pre-norm blocks: linear ops cost much, norms and activations little."""
    b, back = Builder(), {"phase": Phase.BACKWARD}
    x = b.add("embed", 8, [], [64])
    kept = []
    for _ in range(layers):
        ln = b.add("norm", 9, [x], [64, 1, 1])
        qkv = b.add("qkv", 300, [ln], [192])
        att = b.add("attention", 150, [qkv], [64, 4])
        proj = b.add("proj", 100, [att], [64])
        if dropout:
            proj = b.add("dropout", 8, [proj], [64, 16], recomputable=False)
        mid = b.add("add", 6, [x, proj], [64])
        ln2 = b.add("norm", 9, [mid], [64, 1, 1])
        wide = b.add("up", 400, [ln2], [256])
        act = b.add("gelu", 25, [wide], [256])
        down = b.add("down", 400, [act], [64])
        out = b.add("add", 6, [mid, down], [64])
        kept.append((x, ln, qkv, att, proj, mid, ln2, wide, act))
        x = out
    loss = b.add("loss", 100, [x], [1], pinned=True)
    boundary = len(b.ops)
    root = b.add("boundary", 0, [loss], [1], recomputable=False, **back)
    g = b.add("dloss", 100, [root, x], [64], **back)
    for x, ln, qkv, att, proj, mid, ln2, wide, act in reversed(kept):
        b.add("dW", 400, [g, act], [8], pinned=True, **back)
        h = b.add("ddown", 400, [g], [256], **back)
        h = b.add("dgelu", 40, [h, wide], [256], **back)
        b.add("dW", 400, [h, ln2], [8], pinned=True, **back)
        h = b.add("dup", 400, [h], [64], **back)
        h = b.add("dnorm", 15, [h, mid, ln2 + 1, ln2 + 2], [64], **back)
        g = b.add("gadd", 6, [g, h], [64], **back)
        h = b.add("ddrop", 8, [g, proj + 1], [64], **back) if dropout else g
        b.add("dW", 100, [h, att], [4], pinned=True, **back)
        h = b.add("dproj", 100, [h], [64], **back)
        h = b.add("datt", 350, [h, qkv, att, att + 1], [192], workspace=64, **back)
        b.add("dW", 300, [h, ln], [8], pinned=True, **back)
        h = b.add("dqkv", 300, [h], [64], **back)
        h = b.add("dnorm", 15, [h, x, ln + 1, ln + 2], [64], **back)
        g = b.add("gadd", 6, [g, h], [64], **back)
    return Graph(b.ops, b.values, name=f"transformer-{layers}", boundary=boundary)


def layered(n: int, seed: int) -> Graph:
    """A random layered graph with skips, one value an op."""
    rng = random.Random(seed)
    graph = nx.DiGraph()
    width = max(2, round(n**0.5 / 1.5))
    for i in range(n):
        graph.add_node(i, size=rng.randint(25, 175), cost=rng.randint(0, 999))
        layer = i // width
        for j in range(max(0, (layer - 1) * width), layer * width):
            if rng.random() < 0.25:
                graph.add_edge(j, i)
        if layer:
            graph.add_edge(rng.randrange(max(0, (layer - 4) * width), layer * width), i)
    return Graph.from_networkx(graph)


def keep_peak(graph: Graph) -> int:
    return simulate(graph, Schedule.keep_all(graph)).peak


def overhead(graph: Graph, share: float, **options: float) -> float:
    result = solve(Problem(graph, int(share * keep_peak(graph))), **options)  # type: ignore[arg-type]
    assert result.trace is not None, "no plan"
    return result.trace.recomputed_cost / graph.total_cost


def test_transformers_fit_half_and_a_third_of_their_memory_for_little() -> None:
    graph = transformer(6)
    assert overhead(graph, 0.5, time_limit=4) < 0.085
    assert overhead(graph, 0.33, time_limit=4) < 0.17


def test_a_deep_transformer_with_ops_that_run_once_has_a_plan_in_seconds() -> None:
    graph = transformer(60, dropout=True)
    assert len(graph.ops) > 1_500
    assert overhead(graph, 0.5, time_limit=5) < 0.07


def test_it_is_no_worse_than_the_solvers_it_calls() -> None:
    graph = layered(120, 1)
    problem = Problem(graph, int(0.85 * keep_peak(graph)))
    best = solve(problem, "auto", time_limit=15).objective  # it ends when the gap is closed
    assert best is not None
    for name in ("greedy", "sqrt", "recompute_all"):
        other = solve(problem, name).objective
        assert other is None or best <= other


def test_the_first_plan_comes_within_a_second_and_the_last_within_the_limit() -> None:
    graph = transformer(12)
    seen: list[Progress] = []
    problem = Problem(graph, int(0.4 * keep_peak(graph)))
    started = time.perf_counter()
    result = solve(problem, time_limit=3.0, report=seen.append)
    assert time.perf_counter() - started < 3.6
    assert seen[0].seconds < 1.0
    costs = [progress.incumbent for progress in seen]
    assert costs == sorted(costs, reverse=True)  # type: ignore[type-var]
    assert costs[-1] == result.objective


def test_small_graphs_are_proved_and_end_early() -> None:
    graph = transformer(1)
    result = solve(Problem(graph, int(0.8 * keep_peak(graph))), time_limit=40)
    assert result.status is Status.OPTIMAL or result.objective == graph.total_cost
    assert result.runtime < 30


def test_fixed_order_is_as_good_as_the_exact_program() -> None:
    for seed in range(3):
        graph = layered(30, seed)
        problem = Problem(graph, int(0.85 * keep_peak(graph)))
        exact = solve(problem, "ilp", time_limit=20)
        result = solve(problem, "auto", time_limit=20, order="fixed")
        assert exact.status in (Status.OPTIMAL, Status.INFEASIBLE)
        assert (result.objective, result.status) == (exact.objective, exact.status)
        if result.schedule is not None:
            assert FIXED_ORDER.contains(graph, result.schedule)
    with pytest.raises(InvalidArgument, match="no order 'any'; choose one of free, fixed"):
        solve(problem, "auto", order="any")


def test_a_plan_for_a_smaller_budget_is_a_candidate_for_a_larger_one() -> None:
    graph = layered(60, 3)
    peak, known, last = keep_peak(graph), [], None
    for share in (0.75, 0.8, 0.85, 0.9):
        result = solve(Problem(graph, int(share * peak)), time_limit=1, start=tuple(known))
        if result.schedule is not None:
            assert last is None or result.objective <= last
            last = result.objective
            known.append(result.schedule)
    assert known


@pytest.mark.parametrize("seed", range(4))
def test_there_is_a_plan_at_the_least_peak_known(seed: int) -> None:
    graph = transformer(2, dropout=True) if seed == 0 else layered(50, seed)
    schedule, peak, bound = minimum_budget(graph, time_limit=3, seed=seed)
    assert simulate(graph, schedule).peak == peak >= bound
    assert bound >= Problem(graph, 0).working_set_bound
    slack = peak + (keep_peak(graph) - peak) // 20
    assert solve(Problem(graph, slack), time_limit=10, seed=seed).schedule is not None
    assert solve(Problem(graph, peak), time_limit=1, start=schedule).schedule is not None


def test_the_least_peak_is_below_what_the_heuristics_reach() -> None:
    graph = transformer(6)
    problem = Problem(graph, keep_peak(graph), Objective.PEAK)
    least = solve(problem, "minpeak", time_limit=5).objective
    other = solve(Problem(graph, 0, Objective.PEAK), "recompute_all").closest_peak
    assert least is not None
    assert other is None or least < other


def test_the_bound_on_the_peak_counts_what_no_order_can_drop() -> None:
    ops = [
        Op("draw", 1, (), (0,), recomputable=False),
        Op("wide", 1, (0,), (1,)),
        Op("narrow", 1, (1,), (2,)),
        Op("both", 1, (0, 2), (3,)),
    ]
    graph = Graph(ops, [Value(name, size) for name, size in zip("abcd", (5, 7, 2, 1))])
    assert Problem(graph, 0).working_set_bound == 12
    assert peak_lower_bound(Problem(graph, 0)) == 14  # the draw waits while 'narrow' runs
    assert simulate(graph, (0, 1, 2, 3)).peak == 14


def test_a_worse_schedule_of_the_exact_solver_never_replaces_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = transformer(1)
    problem = Problem(graph, simulate(graph, Schedule.keep_all(graph)).peak)
    twice = Schedule((0, *range(len(graph.ops))))  # fits, and costs more than the bound it names
    stale = Answer(twice, graph.total_cost, FIXED_ORDER)
    monkeypatch.setattr(auto, "get_solver", lambda name: (name, lambda *args, **options: stale))
    search = Search(problem)
    exact = auto._Exact(search)
    answer = exact.answer()
    assert answer.schedule is not None
    assert simulate(problem, answer.schedule).cost == graph.total_cost
