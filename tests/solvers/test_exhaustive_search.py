"""The search of all positions against one written apart."""

from __future__ import annotations

from pebble.problem import Problem
from pebble.referee import simulate
from pebble.solvers.bounds.exhaustive_search import exhaust
from tests.graphs import budgets, plain_graph, rich_graph
from tests.optima import least_cost


def test_exhausting_gives_the_optimum_of_graphs_with_everything() -> None:
    for seed in range(60):
        graph = rich_graph(seed)
        for budget in budgets(graph)[:3]:
            problem = Problem(graph, budget)
            answer, best = exhaust(problem), least_cost(problem)
            assert answer is not None
            if best is None:
                assert answer.infeasible
                continue
            assert answer.schedule is not None
            trace = simulate(problem, answer.schedule)
            assert (trace.cost, trace.peak <= budget) == (best, True)
            assert answer.lower_bound == best


def test_exhausting_gives_up_in_time() -> None:
    graph = plain_graph(1)
    assert exhaust(Problem(graph, budgets(graph)[0]), positions=3) is None
