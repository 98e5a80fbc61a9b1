"""Graph: its rules, its arrays, and the ways in and out."""

from __future__ import annotations

import json
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

from pebble.errors import GraphError
from pebble.graph import Graph, Op, Phase, Value
from pebble.plan.differences import first_difference


def small() -> Graph:
    """A layer norm: x (external) -> out, mean, rstd -> use."""
    return Graph(
        [
            Op("norm", 5, (0,), (1, 2, 3), workspace=7, kind="norm"),
            Op("use", 3, (1, 1, 3, 0), (4,), phase=Phase.BACKWARD, recomputable=False, kind="use"),
        ],
        [
            Value("x", 100, external=True, spec="f32[25]"),
            Value("out", 10, spec="f32[2]"),
            Value("mean", 2),
            Value("rstd", 3),
            Value("y", 4, pinned=True),
        ],
    )


def test_arrays_leave_externals_out_and_count_each_read_once() -> None:
    a = small().arrays
    assert a.size.tolist() == [0, 10, 2, 3, 4]
    assert a.producer.tolist() == [-1, 0, 0, 0, 1]
    assert a.in_val.tolist() == [1, 3]
    assert a.in_ptr.tolist() == [0, 0, 2]
    assert a.out_val[a.out_ptr[0] : a.out_ptr[1]].tolist() == [1, 2, 3]
    assert a.use_op[a.use_ptr[1] : a.use_ptr[2]].tolist() == [1]
    assert a.recomputable.tolist() == [True, False]


def test_json_round_trip_is_exact() -> None:
    graph = small()
    again = Graph.from_json(json.loads(json.dumps(graph.to_json())))
    assert again == graph
    assert again.fingerprint == graph.fingerprint


def test_the_source_line_is_a_label_that_files_keep() -> None:
    graph = small()
    ops = [replace(op, source=f"model.py:{i}: x = f(x)") for i, op in enumerate(graph.ops)]
    named = Graph(ops, graph.values)
    assert named.fingerprint == graph.fingerprint
    assert named == graph
    again = Graph.from_json(json.loads(json.dumps(named.to_json())))
    assert [op.source for op in again.ops] == [op.source for op in ops]
    assert "source" not in graph.to_json()["ops"][0]


def test_networkx_round_trip() -> None:
    graph = nx.DiGraph()
    graph.add_node("a", size=3, cost=4)
    graph.add_node("b", size=5, cost=6, workspace=2, pinned=True)
    graph.add_edge("a", "b")
    ours = Graph.from_networkx(graph)
    back = ours.to_networkx()
    assert dict(back.nodes["b"]) == {
        "size": 5, "cost": 6, "workspace": 2, "phase": "forward", "recomputable": True,
        "pinned": True,
    }  # fmt: skip
    assert list(back.edges) == [("a", "b")]
    assert Graph.from_networkx(back) == ours


def test_networkx_nodes_out_of_order_are_sorted() -> None:
    graph = nx.DiGraph([("late", "last"), ("early", "late")])
    assert [op.name for op in Graph.from_networkx(graph).ops] == ["early", "late", "last"]


def test_numpy_integers_are_accepted() -> None:
    graph = Graph([Op("a", np.int64(3), (), (0,))], [Value("v", np.int32(4))])
    assert graph.total_cost == 3


def test_fingerprint_ignores_names_costs_and_workspace() -> None:
    graph = small()
    other = graph.with_measures(costs=[9, 9], workspaces=[0, 1])
    assert other.fingerprint == graph.fingerprint
    assert other != graph
    assert first_difference(graph, other) is None


def test_first_difference_names_it() -> None:
    graph = small()
    values = list(graph.values)
    values[0] = Value("x", 200, external=True, spec="f32[50]")
    assert first_difference(graph, Graph(graph.ops, values)) == (
        "'x' is f32[25] in the plan, but 'x' is f32[50]"
    )


BAD = [
    ([Op("a", 1, (), (0,)), Op("a", 1)], [Value("v", 1)], "Two ops are called 'a'"),
    ([Op("a", -1, (), (0,))], [Value("v", 1)], "cost of op 'a' is -1; it must not be negative"),
    ([Op("a", 1, (), (0,))], [Value("v", -4)], "size of value 'v' is -4; it must not be negative"),
    ([Op("a", 1, (), (0,))], [Value("v", 1.5)], "size of value 'v' is 1.5; it must be an integer"),
    ([Op("a", 1, (), (3,))], [Value("v", 1)], "names value 3, but graph 'graph' has values 0 to 0"),
    ([Op("a", 1, (0,), ())], [Value("v", 1)], "Value 'v' is made by no op"),
    ([Op("a", 1, (), (0,))], [Value("v", 1, external=True)], "which is external"),
    ([Op("a", 1, (), (0,)), Op("b", 1, (), (0,))], [Value("v", 1)], "by op 'a' and by op 'b'"),
    ([Op("b", 1, (0,), ()), Op("a", 1, (), (0,))], [Value("v", 1)], "before op 'a' makes it"),
    ([Op("a", 2**62 + 1, (), (0,))], [Value("v", 1)], "use a larger unit"),
]


@pytest.mark.parametrize(("ops", "values", "text"), BAD, ids=[text for *_, text in BAD])
def test_a_broken_graph_is_refused_in_one_sentence(ops: list, values: list, text: str) -> None:
    with pytest.raises(GraphError) as error:
        Graph(ops, values)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cycle_is_named() -> None:
    graph = nx.DiGraph([("a", "b"), ("b", "c"), ("c", "b")])
    with pytest.raises(GraphError, match=r"cycle: (b -> c -> b|c -> b -> c)"):
        Graph.from_networkx(graph)


def test_json_of_something_else_is_refused() -> None:
    with pytest.raises(GraphError, match='no "format"'):
        Graph.from_json({"nodes": []})
    with pytest.raises(GraphError, match="schema version 99"):
        Graph.from_json({"format": "pebble-graph", "schema_version": 99})
    damaged = small().to_json()
    damaged["ops"][0]["colour"] = "red"
    with pytest.raises(GraphError, match="damaged"):
        Graph.from_json(damaged)
