from __future__ import annotations

import pytest

from pebble.allocator.replays import replay
from pebble.allocator.training_events import Event, training_events
from pebble.budget import Footprint, Resident
from pebble.graph import Graph, Op, Phase, Value
from pebble.schedule import Schedule
from tests.graphs import random_graph
from tests.runtime.schedules import random_repeats


def small_step(**resident: int) -> Footprint:
    """Weight w (external) -> a -> loss l (pinned) -> gradient g (pinned)."""
    values = [
        Value("w", 1000, external=True),
        Value("a", 300),
        Value("l", 4, pinned=True),
        Value("g", 1000, pinned=True),
    ]
    ops = [
        Op("f", 1, (0,), (1,), workspace=70),
        Op("loss", 1, (1,), (2,)),
        Op("b", 1, (1, 2), (3,), phase=Phase.BACKWARD),
    ]
    kinds = {"parameters": 1000} | resident
    return Footprint(Graph(ops, values), Resident(kinds))


def test_the_order_of_the_events() -> None:
    step = small_step()
    events = training_events(step, Schedule((0, 1, 0, 2)))
    a, again, loss, gradient = 0, 1, 2, 3
    assert events.step == (
        Event(a, 300), Event(4, 70), Event(4, 0),  # the workspace goes before what was read
        Event(loss, 4), Event(a, 0),
        Event(again, 300), Event(6, 70), Event(6, 0),
        Event(gradient, 1000), Event(again, 0),
    )  # fmt: skip
    assert events.held == (loss, gradient)
    assert events.resident == (1000,)


def test_a_pinned_value_made_again_dies_at_once() -> None:
    events = training_events(small_step(), Schedule((0, 1, 1, 2)))
    assert events.held == (1, 3)
    assert [e for e in events.step if e.tensor == 2] == [Event(2, 4), Event(2, 0)]


def test_what_the_graph_does_not_read_is_there_as_well() -> None:
    step = small_step(parameters=1600, inputs=10)
    step.resident.kinds["library workspace"] = 88  # type: ignore[index]
    assert training_events(step, Schedule((0, 1, 2))).resident == (1000, 610, 88)


def test_weights_stored_in_fewer_bits_are_smaller_tensors() -> None:
    step = small_step(parameters=250)
    assert training_events(step, Schedule((0, 1, 2))).resident == (250,)


def test_the_optimizer_s_state_is_as_large_as_the_gradients() -> None:
    step = Footprint(
        small_step().graph, Resident({"parameters": 1000, "optimizer state": 2003}, 3003 + 1004 + 7)
    )
    events = training_events(step, Schedule((0, 1, 2)))
    assert events.optimizer_state == (1002, 1001)
    assert events.temporaries == (7,)


def test_accumulated_gradients_are_one_tensor_each() -> None:
    values = [Value("w", 8, external=True), Value("a", 4), Value("g", 6), Value("h", 2)]
    ops = [
        Op("f", 1, (0,), (1,)),
        Op("b", 1, (1,), (2,), phase=Phase.BACKWARD),
        Op("c", 1, (1,), (3,), phase=Phase.BACKWARD),
    ]
    step = Footprint(Graph(ops, values), Resident({"parameters": 8, "accumulated gradients": 8}))
    assert training_events(step, Schedule((0, 1, 2))).resident == (8, 6, 2)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_requested_is_the_predicted_peak(seed: int) -> None:
    graph = random_graph(
        seed, 40, size=(0, 9000), workspace=(0, 5000), pinned=0.2, makes=(1, 2), external=True
    )
    schedule = random_repeats(graph, 0.3, seed)
    pinned = int(graph.arrays.size[graph.arrays.pinned].sum())
    kinds = {"parameters": 5000, "optimizer state": 9001, "library workspace": 100}
    for temporaries in (0, 100, 10**6):
        resident = Resident(kinds, sum(kinds.values()) + pinned + temporaries)
        step = Footprint(graph, resident)
        assert replay(training_events(step, schedule)).requested == step.peak(schedule)
