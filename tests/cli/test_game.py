"""The command ``pebble game``: what it prints, and what it says when something is wrong."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

import pytest

from pebble.cli.game import add_parser, answer
from pebble.errors import GraphError, InvalidArgument
from pebble.games import Board, make_graph


def arguments(line: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return parser.parse_args(["game", *line.split()])


def test_command_prints_frames(capsys: pytest.CaptureFixture[str]) -> None:
    args = arguments("reversible path:16 --pebbles 6")
    assert args.run(args) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("reversible/persistent on path:16: optimal, 6 pebbles, 51 moves")
    assert len(lines) == 53
    assert lines[-1].split()[1:3] == ["." * 15 + "#", "1"]


def test_command_speaks_json() -> None:
    status, text = answer(arguments("red-blue tree:2x2 --pebbles 3 --json"))
    data = json.loads(text)
    assert (status, data["cost"], data["cost_name"]) == (0, 7, "transfers")
    assert data["status"] == "optimal"
    assert data["strategy"][0] == ["load", 0]
    status, text = answer(arguments("reversible path:4 --front --json"))
    assert [(r["pebbles"], r["cost"]) for r in json.loads(text)] == [(3, 9), (4, 7)]
    assert "3             9  optimal" in answer(arguments("reversible path:4 --front"))[1]


def test_command_statuses() -> None:
    assert answer(arguments("black pyramid:2 --pebbles 2"))[0] == 1
    assert answer(arguments("parallel-black path:3"))[0] == 0
    with pytest.raises(InvalidArgument, match="no game"):
        answer(arguments("chess pyramid:2"))
    with pytest.raises(InvalidArgument, match="neither a file nor a family"):
        answer(arguments("black castle"))
    with pytest.raises(SystemExit):
        arguments("black pyramid:2 --pebbles 2 --front")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("reversible pyramid", "write pyramid:HEIGHT with whole numbers."),
        ("reversible pyramid:x", "write pyramid:HEIGHT with whole numbers."),
        ("reversible matmul:3", "write matmul:ROWSxINNERxCOLUMNS with whole numbers."),
        ("black layered:9x2x1x4", "(WIDTH and SEED may be left out)."),
        ("reversible path:0", "The number of nodes is 0; it must be at least 1."),
        ("reversible missing.bench", "There is no file 'missing.bench'."),
        ("reversible .", "is a folder"),
        ("spooky/few path:3", "has no option 'few'; options are"),
        ("reversible path:4 --pebbles 0", "--pebbles is 0; a game takes at least 1."),
        ("reversible path:4 --time-limit nan", "The time limit is nan; it must be positive"),
        ("reversible path:4 --engine cpsat --horizon -1", "The horizon is -1"),
    ],
)
def test_command_says_what_is_wrong(line: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(sentence)):
        answer(arguments(line))


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.bench", b"INPUT(a)\nOUTPUT(z)\nx = OR(a, z)\nz = AND(x, a)\n", "form a loop through"),
        ("a.bench", b"INPUT(a)\n", "has no gate"),
        ("a.bench", b"\xff\x00", "is no UTF-8 text"),
        ("a.json", b'{"n": 3, "edges": [[0, 1], [1, 2], [2, 0]]}', "the edges form a loop"),
        ("a.json", b'{"n": 3, "edges": [[0, 7]]}', "nodes, which are 0 to 2"),
        ("a.json", b'{"n": 3, "edges": 5}', "edges is 5; input should be a valid list"),
        ("a.json", b'{"n": "3", "edges": []}', "n is '3'"),
        ("a.json", b'{"n": 3, "edges": [[0, 1]], "targets": [3]}', "target 3 is no node"),
    ],
)
def test_command_says_what_is_wrong_in_a_file(
    tmp_path: Any, name: str, text: bytes, sentence: str
) -> None:
    file = tmp_path / name
    file.write_bytes(text)
    with pytest.raises(GraphError, match=re.escape(sentence)):
        answer(arguments(f"reversible {file}"))


def test_edges_may_come_in_any_order(tmp_path: Any) -> None:
    file = tmp_path / "line.json"
    file.write_text(json.dumps({"n": 3, "edges": [[2, 0], [0, 1]], "targets": [1]}))
    board = Board.of(make_graph(str(file)))
    assert (board.names, board.preds, board.targets) == (("2", "0", "1"), ((), (0,), (1,)), (2,))


def test_command_reads_files(tmp_path: Any) -> None:
    bench = tmp_path / "two.bench"
    bench.write_text("INPUT(a)\nOUTPUT(z)\ny = AND(a, a, a)\nz = OR(y, a)\n")
    assert json.loads(answer(arguments(f"reversible {bench} --json"))[1])["pebbles"] == 2
    data = tmp_path / "two.json"
    data.write_text(json.dumps({"n": 2, "edges": [[0, 1]], "targets": [1]}))
    assert json.loads(answer(arguments(f"black {data} --json"))[1])["pebbles"] == 2
    data.write_text(json.dumps(make_graph("path:3").to_json()))
    assert json.loads(answer(arguments(f"black {data} --json"))[1])["graph"] == "path:3"
    data.write_text("nothing")
    with pytest.raises(InvalidArgument, match="no JSON"):
        answer(arguments(f"black {data}"))
