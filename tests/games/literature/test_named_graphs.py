"""Graphs by name: families with their numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pebble.errors import InvalidArgument, PebbleError
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


@pytest.mark.parametrize(
    "text",
    [
        "path:999999999999", "pyramid:1000000", "tree:10x10000000000", "tree:1x999999999999",
        "fft:999999999999", "bitrev:64", "bipstack:99999x1", "grid:999999999x1", "random:999999",
        "matmul:1000x1000x1000", "trainchain:9999999999", "layered:1000000x100000",
    ],
)  # fmt: skip
def test_a_family_is_measured_before_it_is_made(text: str) -> None:
    with pytest.raises(InvalidArgument, match="the most that a graph is made with"):
        make_graph(text)


def test_names_that_no_file_has_are_one_short_sentence() -> None:
    for text in ("path:" + "9" * 5000, "a\0b", "x" * 5000, "x" * 5000 + ".json"):
        with pytest.raises(InvalidArgument) as error:
            make_graph(text)
        assert len(str(error.value)) < 400


def test_numbered_files_are_checked_before_they_are_made(tmp_path: Path) -> None:
    file = tmp_path / "graph.json"
    for data, sentence in (
        ('{"n": 10000000, "edges": []}', "may stand alone"),
        ('{"n": 1e999, "edges": []}', "n is inf"),
        ('{"n": true, "edges": []}', "n is True"),
        ('{"n": 3, "edges": [[0, 1, 2]]}', "edges.0"),
        ('{"n": 3, "edges": [[0, -1]]}', "edges.0.1 is -1"),
        ('{"n": 3, "edges": [[0, 1]], "targets": 2}', "targets is 2"),
        ('{"n": 3, "n": 3, "edges": []}', "'n' occurs twice"),
    ):
        file.write_text(data)
        with pytest.raises(PebbleError, match=sentence):
            make_graph(str(file))
    ring = [[i, (i + 1) % 1000] for i in range(1000)]
    file.write_text(json.dumps({"n": 1000, "edges": ring}))
    with pytest.raises(PebbleError, match="form a loop: .* more") as error:
        make_graph(str(file))
    assert len(str(error.value)) < 300
