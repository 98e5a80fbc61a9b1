"""Schedules are strategies: peaks and costs agree with the referee, with and without offloading."""

from __future__ import annotations

import random

import networkx as nx
import pytest

from pebble.errors import InvalidArgument, InvalidSchedule
from pebble.games import (
    Act,
    Black,
    Move,
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


def test_strategies_that_are_no_schedules() -> None:
    graph = make_graph("path:2")
    with pytest.raises(InvalidSchedule, match="none of a black game"):
        schedule_of_strategy(graph, [Move(Act.LOAD, 0)])
    with pytest.raises(InvalidArgument, match="does not make just value"):
        offload_of_strategy(random_graph(3), [])
