"""Graphs from outside: one short sentence for what is wrong, before anything is built."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest

from pebble.errors import GraphError
from pebble.graph import Graph, Op, Value


def data() -> dict[str, Any]:
    return Graph(
        [Op("a", 1, (), (0,)), Op("b", 2, (0,), (1,))], [Value("x", 4), Value("y", 8)]
    ).to_json()


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "huge index": (lambda d: d["ops"][1].update(inputs=[10**30]), "ops.1.inputs.0 is 1000"),
    "index outside": (lambda d: d["ops"][1].update(inputs=[7]), "Op 'b' names value 7"),
    "negative size": (lambda d: d["values"][0].update(size=-1), "values.0.size is -1"),
    "infinite size": (lambda d: d["values"][0].update(size=float("inf")), "values.0.size is inf"),
    "NaN cost": (lambda d: d["ops"][0].update(cost=float("nan")), "ops.0.cost is nan"),
    "text for a number": (lambda d: d["ops"][0].update(cost="1"), "ops.0.cost is '1'"),
    "flag for a number": (lambda d: d["ops"][0].update(cost=True), "ops.0.cost is True"),
    "number for a name": (lambda d: d["ops"][0].update(name=3), "ops.0.name is 3"),
    "unknown phase": (lambda d: d["ops"][0].update(phase="up"), "ops.0.phase is 'up'"),
    "unknown entry": (lambda d: d["ops"][0].update(speed=1), "ops.0.speed is 1"),
    "no list": (lambda d: d.update(ops={"a": 1}), "ops is {'a': 1}"),
    "missing": (lambda d: d.pop("values"), "values is missing"),
    "boundary outside": (lambda d: d.update(boundary=9), "boundary of graph"),
    "long text": (lambda d: d.update(boundary="x" * 10**6), "boundary is 'xxx"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_data_are_refused(name: str) -> None:
    change, text = DAMAGES[name]
    damaged = data()
    change(damaged)
    with pytest.raises(GraphError) as error:
        Graph.from_json(damaged)
    assert text in str(error.value)
    assert len(str(error.value)) < 300


def test_numbers_of_numpy_are_numbers_in_json() -> None:
    graph = Graph([Op("a", np.int64(3), (), (0,))], [Value("x", np.int64(4))])
    assert Graph.from_json(json.loads(json.dumps(graph.to_json()))) == graph
    assert Graph.from_json(graph.to_json()) == graph


def test_a_long_cycle_has_a_short_sentence() -> None:
    ring = nx.DiGraph([(i, (i + 1) % 20_000) for i in range(20_000)])
    with pytest.raises(GraphError, match=r"0 -> 1 -> 2 -> 3 -> \.\.\. \(19994 more\)") as error:
        Graph.from_networkx(ring)
    assert len(str(error.value)) < 200


def test_other_objects_than_a_directed_graph_are_refused() -> None:
    for other in (nx.Graph([(0, 1)]), {"a": 1}, None):
        with pytest.raises(GraphError, match="pass a DiGraph"):
            Graph.from_networkx(other)
    several = nx.MultiDiGraph([(0, 1), (0, 1)])
    assert len(Graph.from_networkx(several).ops) == 2
    odd = nx.DiGraph()
    odd.add_node("a", phase="sideways")
    with pytest.raises(GraphError, match="phase of node 'a' is 'sideways'"):
        Graph.from_networkx(odd)


def test_an_index_is_an_integer() -> None:
    with pytest.raises(GraphError, match="Op 'a' names value 'x'"):
        Graph([Op("a", 1, (), ("x",))], [Value("x", 1)])  # type: ignore[arg-type]
