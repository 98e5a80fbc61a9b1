"""Boards of graphs, and wrong ones."""

from __future__ import annotations

import networkx as nx
import pytest

from pebble.errors import GraphError, InvalidArgument
from pebble.games import Board


def test_boards() -> None:
    graph = nx.DiGraph([("b", "c"), ("a", "b"), ("a", "d")])
    board = Board.of(graph)
    assert {board.names[t] for t in board.targets} == {"c", "d"}
    assert Board.of(graph, targets=["b"]).targets == (board.index("b"),)
    with pytest.raises(InvalidArgument, match="has no node 'z'"):
        Board.of(graph, targets=["z"])
    with pytest.raises(GraphError, match="cycle"):
        Board.of(nx.DiGraph([("a", "b"), ("b", "a")]))
    with pytest.raises(GraphError, match="topological"):
        Board(names=("a", "b"), preds=((1,), ()), targets=(0,))
