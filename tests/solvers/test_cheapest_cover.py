"""The cheapest cover is the cheapest, by trying them all."""

from __future__ import annotations

import itertools
import random

import pytest

from pebble.solvers.integer.cheapest_cover import cheapest_cover


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_cheapest_of_all(seed: int) -> None:
    draw = random.Random(seed)
    costs = [draw.randint(1, 9) for _ in range(6)]
    moments = [({i: draw.randint(-3, 9) for i in range(6)}, draw.randint(0, 18)) for _ in range(4)]
    covers = [
        sum(costs[i] for i in chosen)
        for n in range(7)
        for chosen in itertools.combinations(range(6), n)
        if all(sum(takes[i] for i in chosen) >= needed for takes, needed in moments)
    ]
    found = cheapest_cover(costs, moments)
    if not covers:
        assert found is None
        return
    assert found is not None
    assert found.cost == min(covers) == found.lower_bound
    assert all(sum(takes[i] for i in found.chosen) >= n for takes, n in moments)


def test_nothing_is_chosen_where_nothing_is_needed() -> None:
    found = cheapest_cover([3, 4], [({0: 5, 1: 5}, 0)])
    assert found is not None
    assert found.chosen == ()
