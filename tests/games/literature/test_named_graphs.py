"""Graphs by name: families with their numbers."""

from __future__ import annotations

import pytest

from pebble.errors import InvalidArgument
from pebble.games import Board, make_graph
from pebble.games.literature.families import FAMILIES
from pebble.games.literature.random_graphs import random_layered


def test_families_by_name() -> None:
    numbers = {"matmul": "2x2x2", "tree": "3x2", "grid": "3x2", "bipstack": "3x2"}
    for family in FAMILIES:
        assert len(make_graph(f"{family}:{numbers.get(family, '3')}").ops) >= 3
    layered = random_layered(50, 5, seed=1)
    board = Board.of(layered)
    assert len(board.sources) == len(board.targets) == 1
    assert random_layered(50, 5, seed=1) == layered != random_layered(50, 5, seed=2)
    for wrong in ("pyramid:x", "pyramid:-1", "pyramid:1x2", "castle:3", "pyramid"):
        with pytest.raises(InvalidArgument):
            make_graph(wrong)
