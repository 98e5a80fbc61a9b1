"""Graph files: both formats, and a sentence with file and line for what is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pebble.errors import GraphError
from pebble.graph import Graph, Op, Value
from pebble.graphfile import load_graph


def test_text(tmp_path: Path) -> None:
    file = tmp_path / "three.txt"
    file.write_text("3 2\n8 5\n\n4 6\n1 0\n0 1\n1 2\n")
    graph = load_graph(str(file))
    assert graph.name == "three"
    assert [(v.size, op.cost, op.inputs) for v, op in zip(graph.values, graph.ops)] == [
        (8, 5, ()), (4, 6, (0,)), (1, 0, (1,)),
    ]  # fmt: skip


def test_json_is_what_a_graph_writes(tmp_path: Path) -> None:
    graph = Graph([Op("a", 3, (0,), (1,), workspace=2)], [Value("x", 5, external=True), Value("y", 1, pinned=True)], boundary=0)  # fmt: skip  # noqa: E501
    file = tmp_path / "graph.json"
    file.write_text("\n" + json.dumps(graph.to_json()))
    assert load_graph(file) == graph


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the file is empty"),
        ("2\n", "line 1: expected two integers 'ops edges', found 1 fields"),
        ("2 1\n1 1\n1 1\n", "promises 2 ops and 1 edges, which is 4 lines, but there are 3"),
        ("2 1\n1 1\n1 x\n0 1\n", "line 3: 'x' is no integer; expected 'size cost'"),
        ("2 1\n1 1\n1 -4\n0 1\n", "line 3: -4 is negative"),
        ("2 1\n1 1\n1 1\n0 2\n", "line 4: node 2 is none of 0 to 1"),
        ("2 1\n1 1\n1 1\n1 0\n", "line 4: edge 1 0 leads back; list the nodes in the order"),
        ("2 2\n1 1\n1 1\n0 1\n1 0\n", "line 5: edge 1 0 leads back and the graph has a cycle: "),
        ("2 1\n1 1\n1 1\n1 1\n", "line 4: edge 1 1 leads back and the graph has a cycle: 1 -> 1"),
        ("{", "is damaged JSON"),
        ('{"format": "other"}', "This JSON is no graph"),
        ('{"format": "pebble-graph", "schema_version": 9}', "schema version 9"),
    ],
)
def test_damage_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.graph"
    file.write_text(text)
    with pytest.raises(GraphError) as error:
        load_graph(file)
    assert message in str(error.value)
    assert "bad.graph" in str(error.value)


def test_a_missing_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"none.txt' cannot be read"):
        load_graph(tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GraphError, match="cannot be read"):
        load_graph(tmp_path / "binary")
