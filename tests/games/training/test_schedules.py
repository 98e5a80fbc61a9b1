"""Schedules are strategies: peaks and costs agree with the referee, with and without offloading."""

from __future__ import annotations

import random

import networkx as nx
import pytest

from pebble.errors import IllegalMove, InvalidArgument, InvalidSchedule
from pebble.games import (
    Act,
    Black,
    Move,
    RedBlue,
    graph_of_edges,
    least_cost,
    least_pebbles,
    make_graph,
    offload_of_strategy,
    place,
    play,
    remove,
    schedule_of_strategy,
    simulate_offload,
    strategy_of_schedule,
    training_board,
    training_game,
)
from pebble.graph import Graph, Op, Value
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule


def random_graph(seed: int) -> Graph:
    """Ops with no, one or several values, external and pinned ones, costs and workspaces."""
    rng = random.Random(seed)
    values = [Value("x", 50, external=True)]
    ops = []
    for i in range(rng.randint(2, 9)):
        outputs = []
        for k in range(rng.choice((0, 1, 1, 1, 2, 3)) if i else 1):
            outputs.append(len(values))
            values.append(Value(f"v{i}.{k}", rng.randint(0, 9), pinned=rng.random() < 0.15))
        reads = rng.sample(
            range(outputs[0] if outputs else len(values)), rng.randint(1, 2) if i else 1
        )
        ops.append(Op(f"op{i}", rng.randint(0, 9), tuple(reads), tuple(outputs), rng.randint(0, 5)))
    return Graph(ops, values)


def random_schedule(graph: Graph, seed: int) -> Schedule:
    """Any legal order with repeats."""
    rng = random.Random(seed)
    order: list[int] = []
    missing = list(range(len(graph.ops)))
    while missing:
        if order and rng.random() < 0.4:
            order.append(rng.choice(order))
        else:
            order.append(missing.pop(0))
    return Schedule(tuple(order))


@pytest.mark.parametrize("seed", range(60))
def test_play_of_a_schedule_has_the_referees_peak_and_cost(seed: int) -> None:
    graph = random_graph(seed)
    schedule = random_schedule(graph, seed)
    expected = simulate(graph, schedule)
    moves = strategy_of_schedule(graph, schedule)
    trace = play(training_game(graph), training_board(graph), moves)
    assert (trace.peak, trace.cost) == (expected.peak, expected.cost)
    assert schedule_of_strategy(graph, moves) == schedule
    without = simulate_offload(graph, schedule)
    assert without.live.tolist() == expected.live.tolist()
    assert (without.cost, without.recomputed_cost) == (expected.cost, expected.recomputed_cost)


def test_a_training_schedule_is_a_black_strategy() -> None:
    graph = make_graph("trainchain:6")
    result = least_cost(graph, Black(), 4)
    schedule = schedule_of_strategy(graph, result.strategy)
    assert simulate(graph, schedule).peak <= 4
    trace = play(Black(), graph, strategy_of_schedule(graph, schedule), pebbles=4)
    assert trace.placements == result.cost == len(schedule)


def test_toy_network_needs_three_pebbles() -> None:
    edges = [("x", "h"), ("W1", "h"), ("h", "y"), ("W2", "y"), ("y", "loss"), ("t", "loss")]
    net = nx.DiGraph(edges)
    graph = Graph.from_networkx(net)
    names = [op.name for op in graph.ops]
    assert len(names) == 7
    line = [
        *("+x", "+W1", "+h", "-x", "-W1", "+W2", "+y", "-h", "-W2", "+t", "+loss"),
    ]
    moves = [(place if m[0] == "+" else remove)(names.index(m[1:])) for m in line]
    assert play(Black(), net, moves).peak == 3
    assert least_pebbles(net, Black()).pebbles == 3
    assert simulate(graph, schedule_of_strategy(graph, moves)).peak == 3


def test_rules_of_the_training_game() -> None:
    graph = Graph(
        [
            Op("a", 1, (), (0, 1), workspace=7),
            Op("b", 1, (0,), (2,), recomputable=False),
            Op("c", 1, (1,), (3,)),
        ],
        [Value("a0", 1), Value("a1", 2), Value("b", 4, pinned=True), Value("c", 8)],
    )
    game, board = training_game(graph), training_board(graph)
    assert board.names == ("a0", "a1", "b", "c")
    a, b, c = (place(0), place(1)), place(2), place(3)
    assert play(game, board, [*a, b, c]).peak == 15
    with pytest.raises(IllegalMove, match="'a1' is made by the same op"):
        play(game, board, [place(0), b])
    with pytest.raises(IllegalMove, match="together with 'a0'"):
        play(game, board, [place(1)])
    with pytest.raises(IllegalMove, match="stays in memory to the end"):
        play(game, board, [*a, b, remove(2)])
    with pytest.raises(IllegalMove, match="run only once"):
        play(game, board, [*a, b, b])
    with pytest.raises(IllegalMove, match="'c' was never computed"):
        play(game, board, [*a, b])


def test_strategies_that_are_no_schedules() -> None:
    graph = make_graph("path:2")
    with pytest.raises(InvalidSchedule, match="none of a black game"):
        schedule_of_strategy(graph, [Move(Act.LOAD, 0)])
    with pytest.raises(InvalidArgument, match="does not make just value"):
        offload_of_strategy(random_graph(3), [])


# -- offloading ----------------------------------------------------------------------------------


def chain(n: int, size: int = 1000) -> Graph:
    graph = make_graph(f"trainchain:{n}")
    edges = [(u, i) for i, op in enumerate(graph.ops) for u in op.inputs]
    return graph_of_edges(2 * n, edges, sizes=[size] * 2 * n, costs=[100] * 2 * n)


def test_offloading_saves_memory_and_costs_time() -> None:
    graph = chain(4)
    plan = [
        place(0), Move(Act.STORE, 0), place(1), Move(Act.STORE, 1), place(2), place(3), place(4),
        place(5), Move(Act.LOAD, 1), place(6), Move(Act.LOAD, 0), place(7),
    ]  # fmt: skip
    trace = simulate_offload(graph, plan, bandwidth=2e9, store_bandwidth=1e9)
    assert simulate(graph, Schedule.keep_all(graph)).peak == 5000
    assert (trace.peak, trace.slow_peak) == (3000, 2000)
    assert (trace.compute_cost, trace.recomputed_cost) == (800, 0)
    assert (trace.transferred, trace.transfer_cost) == (4000, 2 * 1000 + 2 * 500)
    assert trace.cost == 3800
    assert (trace.slow // 1000).tolist() == [0, 1, 1, 2, 2, 2, 2, 2, 2, 1, 1, 0]


def test_a_red_blue_strategy_is_an_offloading_schedule() -> None:
    graph = make_graph("trainchain:5")
    game = RedBlue(blue_inputs=False, compute=1)
    result = least_cost(graph, game, 3)
    assert result.strategy is not None
    trace = simulate_offload(graph, offload_of_strategy(graph, result.strategy), bandwidth=1e9)
    assert trace.peak <= 3
    assert trace.cost == result.cost


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        ([place(0), place(2)], "reads value '1', but no earlier step has made or loaded it"),
        ([Move(Act.STORE, 0)], "stores '0', but no earlier step has made it"),
        ([place(0), Move(Act.LOAD, 0)], "loads '0', but no earlier step has stored it"),
        ([place(0), remove(0)], "only place, store and load"),
        ([place(9)], "runs op 9, but graph"),
        ([Move(Act.STORE, 9)], "there is no value 9"),
        ([place(0), place(1)], "never runs"),
    ],
)
def test_wrong_offloading_schedules(plan: list[Move], sentence: str) -> None:
    with pytest.raises(InvalidSchedule, match=sentence):
        simulate_offload(make_graph("path:3"), plan)


def test_offloading_keeps_the_rules_of_the_problem() -> None:
    graph = make_graph("path:2")
    with pytest.raises(InvalidSchedule, match="again, which may run once"):
        simulate_offload(Problem(graph, 9, recompute=False), [place(0), place(0), place(1)])
    with pytest.raises(InvalidArgument, match="bandwidth must be positive"):
        simulate_offload(graph, [place(0), place(1)], bandwidth=0)
    extern = Graph([Op("a", 1, (0,), (1,))], [Value("w", 5, external=True), Value("a", 1)])
    with pytest.raises(InvalidSchedule, match="'w' is external"):
        simulate_offload(extern, [place(0), Move(Act.STORE, 0)])
