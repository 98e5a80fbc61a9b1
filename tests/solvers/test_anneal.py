"""The annealer: its repeatability, its strength, its options."""

from __future__ import annotations

import networkx as nx
import pytest

from pebble.errors import InvalidArgument
from pebble.graph import Graph
from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import solve
from tests.graphs import keep_peak, rich_graph, training_chain


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
    problem = Problem(rich_graph(5, 30), 10**6, Objective.PEAK)
    runs = {
        solve(problem, "anneal", seed=s, iterations=4_000, time_limit=30).schedule for s in range(6)
    }
    assert len(runs) > 1


def test_it_finds_the_optimal_recomputation_of_a_chain() -> None:
    graph = training_chain(6)  # ten executions of the forward half are not enough below this
    problem = Problem(graph, keep_peak(graph) - 2)
    exact = solve(problem, "ilp", time_limit=20)
    found = solve(problem, "anneal", iterations=200_000)
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
    assert keep_peak(problem.graph) > 4
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
