"""The generators of random graphs, and sweeps over 20 budgets of what they make."""

from __future__ import annotations

import doctest
import importlib.util
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from pebble.errors import InvalidArgument
from pebble.graph import Phase
from pebble.plan.sweeps import sweep
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule


def load() -> ModuleType:
    """benchmarks/generators.py, which is no part of the package."""
    path = Path(__file__).parents[1] / "benchmarks" / "generators.py"
    spec = importlib.util.spec_from_file_location("generators", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generators"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


generators = load()
FAMILIES = sorted(generators.FAMILIES)


def test_doctests() -> None:
    assert doctest.testmod(generators).failed == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_gives_the_same_graph_and_another_seed_another(family: str) -> None:
    make = generators.FAMILIES[family]
    assert make(seed=3).fingerprint == make(seed=3).fingerprint
    assert make(seed=3) == make(seed=3)
    assert make(seed=3) != make(seed=4)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "tree"])
def test_steps_have_two_halves_and_something_to_gain(family: str) -> None:
    graph = generators.FAMILIES[family](seed=1)
    assert graph.boundary is not None
    phases = [op.phase for op in graph.ops]
    assert phases.index(Phase.BACKWARD) == graph.boundary + 1
    assert phases.count(Phase.FORWARD) == phases.count(Phase.BACKWARD) + 1
    peak = simulate(graph, Schedule.keep_all(graph)).peak
    assert Problem(graph, 0).working_set_bound < 0.7 * peak


def test_a_tree_has_its_leaves_and_reads_everything_once() -> None:
    graph = generators.tree(33, seed=5)
    assert sum(not op.inputs for op in graph.ops) == 33
    assert sorted(v for op in graph.ops for v in op.inputs) == list(range(64))
    assert [v.name for v in graph.values if v.pinned] == [graph.ops[-1].name]


def test_a_unet_reads_across_from_every_level() -> None:
    graph = generators.unet(4, seed=0, convolutions=3)
    skips = [op.name for op in graph.ops[: graph.boundary] if len(op.inputs) == 2]
    assert len(skips) == 4


def test_senseless_sizes_are_refused() -> None:
    for make in (generators.chain, generators.layered, generators.unet, generators.tree):
        with pytest.raises(InvalidArgument, match="at least 1"):
            make(0)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "tree"])
@pytest.mark.parametrize(
    "seed", [s if s == 0 else pytest.param(s, marks=pytest.mark.slow) for s in range(3)]
)
def test_cost_never_rises_with_the_budget_over_20_budgets(family: str, seed: int) -> None:
    graph = generators.FAMILIES[family](seed=seed)
    peak = simulate(graph, Schedule.keep_all(graph)).peak
    least = Problem(graph, 0).working_set_bound
    budgets = [least + (peak - least) * k // 19 for k in range(20)]
    table = sweep(graph, budgets=budgets, solvers=("priced", "sqrt"), time_limit=20.0)
    for solver in ("priced", "sqrt"):
        costs = [row.result.objective for row in table.rows if row.solver == solver]
        found = [cost for cost in costs if cost is not None]
        assert len(found) >= 8
        assert costs[len(costs) - len(found) :] == found, "a plan is never lost again"
        assert all(more <= less for less, more in pairwise(found))
        assert found[-1] == graph.total_cost


@pytest.mark.parametrize(
    "seed", [s if s == 0 else pytest.param(s, marks=pytest.mark.slow) for s in range(10)]
)
def test_cost_of_the_portfolio_never_rises_with_the_budget_over_20_budgets(seed: int) -> None:
    makes = (generators.chain, generators.layered, generators.unet)
    graph = makes[seed % 3](4 + seed // 3, seed=seed)
    result = sweep(graph, budgets=20, solvers=("auto",), time_limit=10.0)
    found = [row.result.objective for row in result.rows]
    budgets = [row.budget_bytes for row in result.rows]
    assert len(set(budgets)) >= 15
    assert budgets == sorted(budgets)
    assert None not in found, "the least budget is one that a plan was found for"
    assert all(more <= less for less, more in pairwise(found))
    assert found[-1] == graph.total_cost < found[0]
