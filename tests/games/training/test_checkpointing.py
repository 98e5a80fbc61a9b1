"""Checkpointing tables: published values, the recursions, and a search over all schedules."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from typing import Any

import pytest

from pebble.errors import InvalidArgument
from pebble.games import StorageLevel, adjoint_time, read_once_time
from pebble.games.formulas import (
    binomial_reach,
    mixed_steps,
    revolve_steps,
    sqrt_segments,
    training_chain_placements,
)

DATA = json.loads((Path(__file__).parents[2] / "data" / "checkpointing_values.json").read_text())


def rows(table: str) -> list[Any]:
    """Parameters of a table's rows, with an id that names it."""
    return [
        pytest.param(*row, id=f"{table} {row[:-1]}".replace(" ", "_"))
        for row in DATA[table]["rows"]
    ]


def test_every_value_is_there() -> None:
    counts = {name: len(table["rows"]) for name, table in DATA.items() if name != "about"}
    values = {
        name: sum(len(row[-1]) for row in DATA[name]["rows"])
        for name in ("revolve", "reach", "disk_revolve", "h_revolve")
    }
    assert (counts["sqrt"], counts["mixed"]) == (8, 15)
    assert values == {"revolve": 150, "reach": 35, "disk_revolve": 304, "h_revolve": 135}


# -- a search over all schedules, written from the rules alone -----------------------------------

State = tuple[Any, ...]


def least(start: State, done: Callable[[State], bool], moves: Callable[[State], Any]) -> float:
    """Dijkstra."""
    heap: list[tuple[float, int, State]] = [(0, 0, start)]
    closed: set[State] = set()
    count = 0
    while heap:
        time, _, state = heapq.heappop(heap)
        if state in closed:
            continue
        if done(state):
            return time
        closed.add(state)
        for price, after in moves(state):
            count += 1
            heapq.heappush(heap, (time + price, count, after))
    return inf


def any_schedule(length: int, levels: list[StorageLevel], *, once: bool = False) -> float:
    """Least time over all schedules; with `once`, reading from level 1 takes the state away."""

    def moves(state: State) -> Iterator[tuple[float, State]]:
        hand, todo, *kept = state
        if hand is not None and hand < todo:
            yield 1, (hand + 1, todo, *kept)
        if hand == todo:
            yield 1, (None, todo - 1, *(row - {todo} for row in kept))
        for k, level in enumerate(levels):
            if hand is not None and (level.slots is None or len(kept[k]) < level.slots):
                yield level.write, (hand, todo, *put(kept, k, kept[k] | {hand}))
            for x in kept[k]:
                lost = put(kept, k, kept[k] - {x})
                if len(kept[k]) == level.slots:
                    yield 0, (hand, todo, *lost)
                yield level.read, (x, todo, *(lost if once and k == 1 else kept))

    start = (0, length, *(frozenset[int]() for _ in levels))
    return least(start, lambda state: state[1] < 0, moves)


def put(kept: list[Any], k: int, now: Any) -> list[Any]:
    return [*kept[:k], now, *kept[k + 1 :]]


def any_mixed_schedule(steps: int, units: int) -> float:
    """Fewest forward steps; a unit holds a state (r) or what the adjoint of a step reads (d)."""

    def moves(state: State) -> Iterator[tuple[int, State]]:
        hand, todo, kept = state  # todo: the step whose adjoint is next, counted from 1
        if ("d", todo) in kept:
            yield 0, (hand, todo - 1, kept - {("d", todo)})
        for unit in kept:
            yield 0, (hand, todo, kept - {unit})
            if unit[0] == "r":
                yield 0, (unit[1], todo, kept)
        if hand is None or hand >= todo:
            return
        if len(kept) < units:
            yield 0, (hand, todo, kept | {("r", hand)})
            yield 1, (hand + 1, todo, kept | {("d", hand + 1)})
        yield 1, (hand + 1, todo, kept)
        if hand + 1 == todo:
            yield 1, (None, todo - 1, kept)

    return least((0, steps, frozenset()), lambda state: state[1] == 0, moves)


# -- the tables ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("slots", "values"), rows("revolve"))
def test_revolve(slots: int, values: list[int]) -> None:
    """Griewank and Walther 2000: forward steps; adjoint steps come on top in the recursion."""
    for steps, value in enumerate(values, start=1):
        assert revolve_steps(steps, slots) == value
        assert adjoint_time(steps - 1, [StorageLevel(slots=slots)]) == value + steps


@pytest.mark.parametrize(("slots", "values"), rows("reach"))
def test_reach(slots: int, values: list[int]) -> None:
    """Griewank and Walther 2000: C(c + r, c), and the step behind it costs one repeat more."""
    for repeats, value in enumerate(values):
        assert binomial_reach(slots, repeats) == value
        if repeats:
            marginal = revolve_steps(value + 1, slots) - revolve_steps(value, slots)
            assert marginal == repeats + 1


@pytest.mark.parametrize(("n", "segment", "peak", "placements"), rows("sqrt"))
def test_sqrt(n: int, segment: int, peak: int, placements: int) -> None:
    """Chen et al. 2016, black/noslide/recompute/visit: optimal at its peak."""
    assert segment * segment == n
    assert sqrt_segments(n) == (peak, placements)
    assert training_chain_placements(n, peak) == placements


@pytest.mark.parametrize(("slots", "write", "read", "once", "values"), rows("disk_revolve"))
def test_disk_revolve(
    slots: int, write: float, read: float, once: bool, values: list[float]
) -> None:
    """Aupy et al. 2016, and no schedule is faster."""
    memory, disk = StorageLevel(slots=slots), StorageLevel(slots=None, write=write, read=read)
    for length, value in enumerate(values):
        if once:
            assert read_once_time(length, memory, disk) == value
        else:
            assert adjoint_time(length, [memory, disk]) == value
        assert any_schedule(length, [memory, disk], once=once) == value


@pytest.mark.parametrize(("slots", "writes", "reads", "values"), rows("h_revolve"))
def test_h_revolve(
    slots: list[int], writes: list[float], reads: list[float], values: list[float]
) -> None:
    """Herrmann and Pallez 2020, and no schedule is faster."""
    levels = [StorageLevel(slots=c, write=w, read=r) for c, w, r in zip(slots, writes, reads)]
    for length, value in enumerate(values):
        assert adjoint_time(length, levels) == value
        assert any_schedule(length, levels) == value


@pytest.mark.parametrize(("steps", "units", "value"), rows("mixed"))
def test_mixed(steps: int, units: int, value: int) -> None:
    """Maddison 2024, and no schedule takes fewer steps."""
    assert mixed_steps(steps, units) == value
    assert any_mixed_schedule(steps, units) == value


def test_three_levels_and_long_chains() -> None:
    levels = [
        StorageLevel(slots=1),
        StorageLevel(slots=1, write=1, read=1),
        StorageLevel(slots=1, write=3, read=3),
    ]
    for length in range(7):
        assert adjoint_time(length, levels) == any_schedule(length, levels)
    assert adjoint_time(300, [StorageLevel(slots=10)]) == revolve_steps(301, 10) + 301
    free = [StorageLevel(slots=2), StorageLevel(slots=None)]
    assert adjoint_time(300, free) == 601
    assert adjoint_time(4, [StorageLevel(slots=0)]) == adjoint_time(4, []) == inf
    assert adjoint_time(0, []) == 1


def test_wrong_chains() -> None:
    with pytest.raises(InvalidArgument, match="-1 slots"):
        StorageLevel(slots=-1)
    with pytest.raises(InvalidArgument, match="time of 0 or more"):
        StorageLevel(slots=1, read=-1)
    with pytest.raises(InvalidArgument, match="length -2"):
        adjoint_time(-2, [StorageLevel(slots=1)])
    with pytest.raises(InvalidArgument, match="0 steps"):
        mixed_steps(0, 1)
    with pytest.raises(InvalidArgument, match="takes a unit"):
        mixed_steps(2, 0)
