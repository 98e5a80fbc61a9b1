"""Graphs from lists of edges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from pebble.errors import GraphError
from pebble.graph import Graph, Op, Phase, Value
from pebble.ordering import cycle_text
from pebble.schema import check_data

MOST_ALONE = 100_000
"""Nodes of a file without an edge: a few bytes of text must not ask for a large graph."""


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
    check_data(data, _form, what=str(file), error=GraphError)
    n, pairs, targets = data["n"], data["edges"], data.get("targets") or []
    if n > 2 * len(pairs) + MOST_ALONE:
        raise GraphError(
            f"{file}: n is {n}, with {len(pairs)} edges; at most {MOST_ALONE:,} nodes may stand "
            "alone."
        )
    for u, v in pairs:
        if u >= n or v >= n:
            raise GraphError(f"{file}: edge {u}, {v} leaves the nodes, which are 0 to {n - 1}.")
    for v in targets:
        if v >= n:
            raise GraphError(f"{file}: target {v} is no node; nodes are 0 to {n - 1}.")
    order = _order(n, pairs, file)
    at = {v: i for i, v in enumerate(order)}
    return graph_of_edges(
        n,
        [(at[u], at[v]) for u, v in pairs],
        name=file.stem,
        names=[str(v) for v in order],
        targets=[at[v] for v in targets],
    )


def _order(n: int, pairs: Sequence[Sequence[int]], file: Path) -> list[int]:
    """The nodes as they are listed if that is a topological order, else in one."""
    if all(u < v for u, v in pairs):
        return list(range(n))
    reads: dict[int, list[int]] = {v: [] for v in range(n)}
    for u, v in pairs:
        reads[v].append(u)
    try:
        return list(TopologicalSorter(reads).static_order())
    except CycleError as error:
        loop = cycle_text(error.args[1][:-1])
        raise GraphError(f"{file}: the edges form a loop: {loop}.") from None


def _form() -> Any:
    from pebble.games.literature.numbered_schema import NumberedForm

    return NumberedForm
