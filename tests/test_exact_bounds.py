"""Bounds and exact answers against a search of all positions written apart."""

from __future__ import annotations

import functools
import itertools
import random
import sys

import networkx as nx
import pytest

from pebble.graph import Graph, Op, Value
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import FREE_ORDER, Schedule, Scope
from pebble.solver import Status, solve, solver_names
from pebble.solvers.bounds.exhaustive_search import exhaust
from pebble.solvers.edits.list_schedules import lean_schedules
from pebble.solvers.integer.moment_programs import crossing_lower_bound
from pebble.solvers.integer.reference_order import in_reference_order


def small_graph(seed: int, most: int = 9) -> Graph:
    """One value an op, all sizes and costs at random."""
    rng = random.Random(seed)
    n = rng.randint(3, most)
    reads = [
        sorted({rng.randrange(max(0, i - 5), i) for _ in range(rng.randint(1, 3))} if i else ())
        for i in range(n)
    ]
    ops = [Op(f"o{i}", rng.randint(1, 9), tuple(reads[i]), (i,)) for i in range(n)]
    return Graph(ops, [Value(f"v{i}", rng.randint(1, 9)) for i in range(n)])


def rich_graph(seed: int) -> Graph:
    """Several outputs, pinned and external values, workspace, ops that run once."""
    rng = random.Random(seed)
    values, ops = [Value("outside", 50, external=True)], []
    for i in range(rng.randint(3, 7)):
        reads = sorted({rng.randrange(len(values)) for _ in range(rng.randint(1, 3))})
        makes = []
        for _ in range(rng.choice((1, 1, 2))):
            makes.append(len(values))
            pinned = rng.random() < 0.15
            values.append(Value(f"v{len(values)}", rng.randint(0, 9), pinned=pinned))
        workspace, once = rng.choice((0, 0, 4)), rng.random() < 0.15
        cost = rng.randint(1, 9)
        op = Op(f"o{i}", cost, tuple(reads), tuple(makes), workspace, recomputable=not once)
        ops.append(op)
    return Graph(ops, values)


def cheapest(problem: Problem, *, in_order: bool = False) -> int | None:
    """Least cost over all schedules: sets of what has run and what is held, cheapest first."""
    graph, sizes = problem.graph, [v.size for v in problem.graph.values]
    inner = [frozenset(v for v in op.inputs if not graph.values[v].external) for op in graph.ops]
    outs = [frozenset(op.outputs) for op in graph.ops]
    stuck = frozenset(v for v, value in enumerate(graph.values) if value.pinned)
    best = {(frozenset[int](), frozenset[int]()): 0}
    layers: dict[int, list[tuple[frozenset[int], frozenset[int]]]] = {0: list(best)}
    while layers:
        cost = min(layers)
        stack = layers.pop(cost)
        while stack:
            state = stack.pop()
            if best[state] < cost:
                continue
            ran, held = state
            if len(ran) == len(graph.ops):
                return graph.total_cost + cost
            after = [(0, (ran, held - {v})) for v in held - stuck]
            for i, op in enumerate(graph.ops):
                again = i in ran
                if not inner[i] <= held or (again and not problem.may_repeat[i]):
                    continue
                if in_order and not again and i != len(ran):
                    continue
                twice = sum(sizes[v] for v in outs[i] & stuck) if again else 0
                live = held | outs[i]
                if sum(sizes[v] for v in live) + op.workspace + twice <= problem.budget:
                    after.append((op.cost if again else 0, (ran | {i}, live)))
            for more, then in after:
                if cost + more < best.get(then, cost + more + 1):
                    best[then] = cost + more
                    (stack if not more else layers.setdefault(cost + more, [])).append(then)
    return None


def budgets(graph: Graph) -> list[int]:
    """From the largest working set to the peak of keeping all."""
    least = Problem(graph, 0).working_set_bound
    most = simulate(graph, Schedule.keep_all(graph)).peak
    return sorted({least, least + (most - least) // 4, least + (most - least) // 2, most})


@functools.cache
def optimum(seed: int, budget: int, rich: bool, in_order: bool = False) -> int | None:
    return cheapest(Problem(rich_graph(seed) if rich else small_graph(seed), budget),
                    in_order=in_order)  # fmt: skip


@pytest.mark.parametrize("block", range(10))
def test_auto_equals_a_search_of_all_positions(block: int) -> None:
    for seed in range(20 * block, 20 * block + 20):
        graph = small_graph(seed)
        budget = random.Random(seed).choice(budgets(graph)[:3])
        result = solve(Problem(graph, budget), "auto", time_limit=20)
        best = optimum(seed, budget, rich=False)
        assert result.objective == best, (seed, budget)
        assert result.status is (Status.INFEASIBLE if best is None else Status.OPTIMAL)


def test_auto_is_exact_on_small_training_chains() -> None:
    for length in range(2, 6):
        chain = nx.DiGraph()
        nx.add_path(chain, [f"f{i}" for i in range(length)])
        nx.add_path(chain, [f"b{i}" for i in reversed(range(length))])
        chain.add_edges_from((f"f{i}", f"b{i}") for i in range(length))
        graph = Graph.from_networkx(chain)
        for budget in range(2, length + 2):
            best = cheapest(Problem(graph, budget))
            assert solve(Problem(graph, budget), "auto", time_limit=20).objective == best


def test_auto_claims_nothing_false_where_it_does_not_look_at_all_positions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules["pebble.solvers.auto"], "SMALL_OPS", 0)
    for seed in range(16):
        graph = small_graph(seed, 8)
        problem = Problem(graph, budgets(graph)[0] + 2)
        best = cheapest(problem)
        result = solve(problem, "auto", time_limit=0.5)
        if best is None:
            assert result.schedule is None
        elif result.scope == FREE_ORDER:
            assert result.lower_bound <= best, seed


@pytest.mark.parametrize("rich", [False, True])
def test_the_bound_of_one_moment_is_below_every_schedule(rich: bool) -> None:
    useful = 0
    for seed in range(60):
        graph = rich_graph(seed) if rich else small_graph(seed, 8)
        for budget in budgets(graph)[:3]:
            problem = Problem(graph, budget)
            best, bound = cheapest(problem), crossing_lower_bound(problem)
            if bound is None:
                assert best is None, (seed, budget)
            elif best is not None:
                assert bound <= best, (seed, budget)
                useful += bound > graph.total_cost
    assert useful > 2, "the bound never says anything"


def test_the_bound_in_reference_order_is_that_of_its_own_class() -> None:
    above = 0
    for seed in range(40):
        graph = small_graph(seed, 8)
        for budget in budgets(graph)[:3]:
            problem = Problem(graph, budget)
            told = in_reference_order(problem)
            best, bound = cheapest(problem, in_order=True), crossing_lower_bound(told)
            assert cheapest(told) == best, "the marks keep the order and cost nothing"
            if bound is None:
                assert best is None
            elif best is not None:
                assert bound <= best
                above += bound > (crossing_lower_bound(problem) or 0)
    assert above, "never more than in free order"


def test_exhausting_gives_the_optimum_of_graphs_with_everything() -> None:
    for seed in range(60):
        graph = rich_graph(seed)
        for budget in budgets(graph)[:3]:
            problem = Problem(graph, budget)
            answer, best = exhaust(problem), cheapest(problem)
            assert answer is not None
            if best is None:
                assert answer.infeasible
                continue
            assert answer.schedule is not None
            trace = simulate(problem, answer.schedule)
            assert (trace.cost, trace.peak <= budget) == (best, True)
            assert answer.lower_bound == best


def test_exhausting_gives_up_in_time() -> None:
    graph = small_graph(1)
    assert exhaust(Problem(graph, budgets(graph)[0]), positions=3) is None


def test_lean_orders_are_schedules_of_their_problem() -> None:
    for seed in range(20):
        problem = Problem(rich_graph(seed), budgets(rich_graph(seed))[-1])
        for schedule in lean_schedules(problem):
            simulate(problem, schedule)


def test_no_bound_of_any_solver_exceeds_a_schedule_of_its_scope() -> None:
    """All bounds and schedules of all solvers on the same problems, each against each."""
    for seed in range(6):
        graph = rich_graph(seed)
        problem = Problem(graph, budgets(graph)[-1] - 1)
        claims: list[tuple[str, int, Scope]] = []
        schedules: list[tuple[str, Schedule, int]] = []
        for name in solver_names():
            result = solve(problem, name, time_limit=0.6)
            if result.status is Status.INFEASIBLE:
                claims.append((name, 2**62, result.scope))
            else:
                claims.append((name, result.lower_bound, result.scope))
            if result.schedule is not None and result.objective is not None:
                schedules.append((name, result.schedule, result.objective))
        for (who, bound, scope), (whose, schedule, cost) in itertools.product(claims, schedules):
            if scope.contains(graph, schedule):
                assert bound <= cost, f"seed {seed}: {who} claims {bound}, {whose} has {cost}"
