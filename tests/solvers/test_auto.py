"""The portfolio: always a plan, soon, better with time, and nothing false about it."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from pebble.graph import Graph
from pebble.problem import Problem
from pebble.schedule import FREE_ORDER
from pebble.solver import Progress, Status, solve
from pebble.solvers.portfolio import free_order
from tests.graphs import (
    budgets,
    keep_peak,
    layered_graph,
    plain_graph,
    training_chain,
    transformer,
)
from tests.optima import least_cost


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


@pytest.mark.slow
def test_it_is_no_worse_than_the_solvers_it_calls() -> None:
    graph = layered_graph(120, 1)
    problem = Problem(graph, int(0.85 * keep_peak(graph)))
    best = solve(problem, "auto", time_limit=15).objective  # it ends when the gap is closed
    assert best is not None
    for name in ("greedy", "sqrt", "recompute_all"):
        other = solve(problem, name).objective
        assert other is None or best <= other


def test_reports_improve_and_the_last_one_is_the_result() -> None:
    graph = transformer(12)
    seen: list[Progress] = []
    result = solve(Problem(graph, int(0.4 * keep_peak(graph))), time_limit=3.0, report=seen.append)
    assert seen[0].source != "anneal", "the first plan is a heuristic's"
    costs = [progress.incumbent for progress in seen if progress.incumbent is not None]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == result.objective


def test_nothing_is_begun_after_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = transformer(12)
    problem = Problem(graph, int(0.4 * keep_peak(graph)))
    looks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: 0.01 * next(looks))
    result = solve(problem, time_limit=3.0)
    assert result.schedule is not None
    assert 200 < next(looks) < 350, "300 looks at the clock are the whole time"


def test_small_graphs_are_proved_and_end_early() -> None:
    graph = transformer(1)
    result = solve(Problem(graph, int(0.8 * keep_peak(graph))), time_limit=40)
    assert result.status is Status.OPTIMAL or result.objective == graph.total_cost


@pytest.mark.slow
def test_a_plan_for_a_smaller_budget_is_a_candidate_for_a_larger_one() -> None:
    graph = layered_graph(60, 3)
    peak, known, last = keep_peak(graph), [], None
    for share in (0.75, 0.8, 0.85, 0.9):
        result = solve(Problem(graph, int(share * peak)), time_limit=1, start=tuple(known))
        if result.schedule is not None:
            assert last is None or result.objective <= last
            last = result.objective
            known.append(result.schedule)
    assert known


@pytest.mark.parametrize("block", range(10))
def test_auto_equals_a_search_of_all_positions(block: int) -> None:
    for seed in range(20 * block, 20 * block + 20):
        graph = plain_graph(seed)
        budget = random.Random(seed).choice(budgets(graph)[:3])
        result = solve(Problem(graph, budget), "auto", time_limit=20)
        best = least_cost(Problem(graph, budget))
        assert result.objective == best, (seed, budget)
        assert result.status is (Status.INFEASIBLE if best is None else Status.OPTIMAL)


def test_auto_is_exact_on_small_training_chains() -> None:
    for length in range(2, 6):
        graph = training_chain(length)
        for budget in range(2, length + 2):
            best = least_cost(Problem(graph, budget))
            assert solve(Problem(graph, budget), "auto", time_limit=20).objective == best


def test_auto_claims_nothing_false_where_it_does_not_look_at_all_positions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(free_order, "SMALL_OPS", 0)
    for seed in range(16):
        graph = plain_graph(seed, 8)
        problem = Problem(graph, budgets(graph)[0] + 2)
        best = least_cost(problem)
        result = solve(problem, "auto", time_limit=0.5)
        if best is None:
            assert result.schedule is None
        elif result.scope == FREE_ORDER:
            assert result.lower_bound <= best, seed
