"""Knill's and Bennett's strategies on the path."""

from __future__ import annotations

import pytest

from pebble.errors import InvalidArgument
from pebble.games import (
    Reversible,
    bennett_strategy,
    formulas,
    knill_strategy,
    least_cost,
    make_graph,
    play,
)


@pytest.mark.parametrize(("n", "k"), [(8, 4), (16, 5), (16, 9), (24, 6), (33, 7)])
def test_knills_line_is_optimal(n: int, k: int) -> None:
    strategy = knill_strategy(n, k)
    trace = play(Reversible(), make_graph(f"path:{n}"), strategy, pebbles=k)
    assert trace.cost == formulas.line_moves(n, k) == len(strategy)
    if n <= 24:
        assert least_cost(make_graph(f"path:{n}"), Reversible(), k).cost == trace.cost


def test_reversible_line_of_64_with_7_pebbles() -> None:
    trace = play(Reversible(), make_graph("path:64"), knill_strategy(64, 7), pebbles=7)
    assert (trace.peak, trace.cost) == (7, formulas.line_moves(64, 7))
    assert formulas.line_moves(64, 6) is None
    with pytest.raises(InvalidArgument, match="at least 7 pebbles, not 6"):
        knill_strategy(64, 6)


@pytest.mark.parametrize(("base", "levels"), [(2, 5), (3, 3), (4, 2)])
def test_bennetts_line(base: int, levels: int) -> None:
    n, pebbles, moves = formulas.bennett_line(base, levels)
    trace = play(Reversible(), make_graph(f"path:{n}"), bennett_strategy(base, levels))
    assert (trace.peak, trace.cost) == (pebbles, moves)
