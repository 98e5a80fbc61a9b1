"""Graphs from lists of edges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from pebble.errors import GraphError
from pebble.graph import Graph, Op, Phase, Value


def graph_of_edges(
    n: int,
    edges: Iterable[tuple[int, int]],
    *,
    name: str = "graph",
    names: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
    costs: Sequence[int] | None = None,
    targets: Iterable[int] | None = None,
    backward: Iterable[int] = (),
) -> Graph:
    """A graph from pairs (u, v), v reads u, of nodes 0 to n - 1 in a topological order.

    Parameters
    ----------
    targets : iterable of int, optional
        Nodes whose values are pinned; without any, the games aim at the sinks.
    backward : iterable of int
        Nodes of the backward phase.
    """
    reads: list[set[int]] = [set() for _ in range(n)]
    for u, v in edges:
        reads[v].add(u)
    pinned, late = set(targets or ()), set(backward)
    labels = [str(v) for v in range(n)] if names is None else list(names)
    ops = [
        Op(
            labels[v],
            1 if costs is None else costs[v],
            tuple(sorted(reads[v])),
            (v,),
            phase=Phase.BACKWARD if v in late else Phase.FORWARD,
        )
        for v in range(n)
    ]
    values = [
        Value(labels[v], 1 if sizes is None else sizes[v], pinned=v in pinned) for v in range(n)
    ]
    return Graph(ops, values, name=name)


def graph_of_numbered(data: dict[str, Any], file: Path) -> Graph:
    """The graph of ``{n, edges, targets}`` from a file; its nodes may come in any order.

    Raises
    ------
    GraphError
        If that is no graph; names the file.
    """
    n, edges, targets = data["n"], data["edges"], data.get("targets") or []
    if not isinstance(n, int) or n < 1:
        raise GraphError(f"{file}: n is {n!r}; it must be a number of nodes, at least 1.")
    pairs = edges if isinstance(edges, list) else [edges]
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(_is_node(v, n) for v in pair)):
            raise GraphError(
                f"{file}: edges holds {pair!r}; each edge is a pair of numbers from 0 to {n - 1}."
            )
    for v in targets if isinstance(targets, list) else [targets]:
        if not _is_node(v, n):
            raise GraphError(f"{file}: target {v!r} is no node; nodes are 0 to {n - 1}.")
    order = list(range(n))
    if any(u >= v for u, v in pairs):
        reads: dict[int, list[int]] = {v: [] for v in order}
        for u, v in pairs:
            reads[v].append(u)
        try:
            order = list(TopologicalSorter(reads).static_order())
        except CycleError as error:
            raise GraphError(f"{file}: the edges form a loop through {error.args[1][0]}.") from None
    at = {v: i for i, v in enumerate(order)}
    return graph_of_edges(
        n,
        [(at[u], at[v]) for u, v in pairs],
        name=file.stem,
        names=[str(v) for v in order],
        targets=[at[v] for v in targets],
    )


def _is_node(v: Any, n: int) -> bool:
    return isinstance(v, int) and not isinstance(v, bool) and 0 <= v < n
