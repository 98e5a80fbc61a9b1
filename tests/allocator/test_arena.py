from __future__ import annotations

import numpy as np
import pytest

from pebble.allocator.arena import Arena, _smallest_gap, packed, schedule_arena
from pebble.graph import Graph, Op, Value
from pebble.referee import simulate
from pebble.schedule import Schedule
from tests.graphs import random_graph
from tests.runtime.schedules import random_repeats


def assert_apart(arena: Arena) -> None:
    """No two tensors that are alive together share a byte."""
    top = arena.offset + arena.size
    for i in range(len(arena.size)):
        others = np.arange(len(arena.size)) != i
        together = (arena.start <= arena.end[i]) & (arena.end >= arena.start[i])
        crossing = (arena.offset < top[i]) & (top > arena.offset[i])
        assert not (others & together & crossing).any()


@pytest.mark.parametrize("seed", range(8))
def test_tensors_alive_together_lie_apart(seed: int) -> None:
    graph = random_graph(seed, 60, size=(0, 9000), workspace=(0, 3000), pinned=0.1, makes=(1, 2))
    arena = schedule_arena(graph, random_repeats(graph, 0.3, seed))
    assert_apart(arena)
    assert arena.live_peak <= arena.bytes < 1.25 * arena.live_peak
    assert arena.excess == arena.bytes / arena.live_peak - 1


def test_the_peak_is_the_referee_s() -> None:
    values = [Value("a", 1024), Value("b", 2048), Value("c", 512)]
    ops = [Op("f", 1, (), (0,)), Op("g", 1, (0,), (1,), workspace=4096), Op("h", 1, (1,), (2,))]
    graph = Graph(ops, values)
    schedule = Schedule.keep_all(graph)
    arena = schedule_arena(graph, schedule)
    assert arena.live_peak == arena.bytes == simulate(graph, schedule).peak == 7168


@pytest.mark.parametrize(("wanted", "place"), [(4, 16), (5, 3), (7, 3), (8, 21)])
def test_the_smallest_gap_is_filled(wanted: int, place: int) -> None:
    """Tensors at 0 to 3, 10 to 16 and 20 to 21: gaps of 7 and 4."""
    assert _smallest_gap(np.array([0, 10, 20]), np.array([3, 6, 1]), wanted) == place


def test_large_tensors_are_placed_first() -> None:
    """In the order of their first steps the small one would part the room of the large one."""
    size, start, end = np.array([2, 1, 3]), np.array([0, 1, 2]), np.array([1, 2, 3])
    arena = packed(size, start, end)
    assert_apart(arena)
    assert (arena.bytes, arena.live_peak, arena.excess) == (4, 4, 0.0)


def test_an_empty_schedule_needs_no_arena() -> None:
    graph = Graph([Op("f", 1)], [])
    arena = schedule_arena(graph, Schedule((0,)))
    assert (arena.bytes, arena.live_peak, arena.excess) == (0, 0, -1.0)
