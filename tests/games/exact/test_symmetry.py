"""Symmetry: automorphisms are what they claim to be, and searching up to them loses nothing."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pebble.games import Board, least_cost, make_game, make_graph
from pebble.games.exact import search as search_module
from pebble.games.exact.symmetry import automorphisms, byte_tables
from pebble.games.literature.random_graphs import random_dag
from pebble.solver import Status


def keeps(board: Board, image: tuple[int, ...]) -> bool:
    edges = {(u, v) for v, reads in enumerate(board.preds) for u in reads}
    rows = zip(board.sizes, board.costs, (v in board.targets for v in range(len(board))))
    kind = list(rows)
    return {(image[u], image[v]) for u, v in edges} == edges and all(
        kind[v] == kind[image[v]] for v in range(len(board))
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10_000), st.booleans())
def test_small_groups_are_complete(n: int, seed: int, weighted: bool) -> None:
    board = Board.of(random_dag(n, 0.35, seed=seed, weighted=weighted))
    everyone = {image for image in permutations(range(n)) if keeps(board, image)}
    found = automorphisms(board, most=1000)
    assert found[0] == tuple(range(n))
    assert len(found) == len(set(found))
    assert set(found) == everyone


@pytest.mark.parametrize(
    ("name", "order"), [("matmul:3x3x3", 144), ("pyramid:5", 2), ("tree:2x3", 128)]
)
def test_groups_of_families(name: str, order: int) -> None:
    board = Board.of(make_graph(name))
    found = automorphisms(board)
    assert len(set(found)) == order
    assert all(keeps(board, image) for image in found)
    assert len(automorphisms(board, most=5)) <= 5


def test_words_are_permuted_by_bytes() -> None:
    from pebble.games.kernels.words import permuted

    board = Board.of(make_graph("matmul:2x2x2"))
    tables, images = byte_tables(board), automorphisms(board)[1:]
    for table, image in zip(tables, images):
        for v, w in enumerate(image):
            assert int(permuted.py_func(np.uint64(1 << v), table)) == 1 << w


@pytest.mark.parametrize(
    ("name", "game", "pebbles"),
    [
        ("tree:2x3", "reversible", 6),
        ("tree:2x3", "black/slide", 4),
        ("fft:2", "red-blue/oneshot", 4),
        ("fft:2", "spooky/1", 8),
        ("matmul:2x1x2", "red-blue", 3),
        ("bipstack:3x2", "black-white", 5),
    ],
)
def test_symmetry_changes_no_value(
    name: str, game: str, pebbles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same least cost, with a strategy that plays, from fewer states."""
    fast = least_cost(make_graph(name), make_game(game), pebbles)
    monkeypatch.setattr(search_module, "byte_tables", lambda board: byte_tables(board, most=1))
    slow = least_cost(make_graph(name), make_game(game), pebbles)
    assert fast.status is slow.status is Status.OPTIMAL
    assert fast.cost == slow.cost
    assert fast.states < slow.states
