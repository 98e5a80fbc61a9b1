"""The computation graph: ops that compute, values that occupy memory. No torch here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from pebble.arrays import GraphArrays, IntArray, arrays_of
from pebble.interchange import json_of, networkx_of, parts_of_json, parts_of_networkx
from pebble.ops import Op, Phase, Value
from pebble.wiring import check_rules

__all__ = ["Graph", "GraphArrays", "IntArray", "Op", "Phase", "Value"]


class Graph:
    """An immutable bipartite graph of ops and values, listed in its reference order.

    Parameters
    ----------
    ops : sequence of Op
        In the reference order: every input is external or made by an earlier op.
    values : sequence of Value
    name : str
    boundary : int, optional
        Index of the op that hands over the forward outputs and receives the root gradient; the
        forward half of a schedule ends with it. Without one, the forward half ends with the
        step that completes the last pinned value of the forward phase.

    Raises
    ------
    GraphError
        If a name occurs twice, a number is negative or not an integer, an index is out of range,
        a value has no producer or two, or the order is not topological.

    Examples
    --------
    >>> from pebble.graph import Graph, Op, Value
    >>> g = Graph([Op("a", 1, (), (0,)), Op("b", 2, (0,), (1,))], [Value("x", 4), Value("y", 8)])
    >>> len(g.ops), g.total_cost
    (2, 3)
    """

    def __init__(
        self,
        ops: Iterable[Op],
        values: Iterable[Value],
        *,
        name: str = "graph",
        boundary: int | None = None,
    ) -> None:
        self.ops: tuple[Op, ...] = tuple(ops)
        self.values: tuple[Value, ...] = tuple(values)
        self.name = name
        self.boundary = boundary
        check_rules(self.ops, self.values, name=name, boundary=boundary)

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, ops={len(self.ops)}, values={len(self.values)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        return (self.ops, self.values, self.boundary) == (other.ops, other.values, other.boundary)

    def __hash__(self) -> int:
        return hash((self.ops, self.values, self.boundary))

    @property
    def total_cost(self) -> int:
        """Cost of running every op once."""
        return sum(op.cost for op in self.ops)

    @cached_property
    def arrays(self) -> GraphArrays:
        """The graph as flat arrays; made once."""
        return arrays_of(self.ops, self.values)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what is computed from what: kinds, specs, sizes and wiring; no costs."""
        parts = [
            [[op.kind, list(op.inputs), list(op.outputs), op.recomputable] for op in self.ops],
            # an input may be a slice of a larger tensor today and stand alone tomorrow
            [[v.spec, 0 if v.external else v.size, v.external, v.pinned] for v in self.values],
            self.boundary,
        ]
        text = json.dumps(parts, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def with_measures(
        self,
        *,
        costs: Sequence[int] | None = None,
        workspaces: Sequence[int] | None = None,
        sizes: Sequence[int] | None = None,
    ) -> Graph:
        """The same graph with other costs or workspaces, one an op, or sizes, one a value."""
        ops = [
            replace(
                op,
                cost=op.cost if costs is None else int(costs[i]),
                workspace=op.workspace if workspaces is None else int(workspaces[i]),
            )
            for i, op in enumerate(self.ops)
        ]
        values = [
            replace(value, size=value.size if sizes is None else int(sizes[i]))
            for i, value in enumerate(self.values)
        ]
        return Graph(ops, values, name=self.name, boundary=self.boundary)

    def with_bytes_of(self, other: Graph) -> Graph:
        """The same graph with the workspaces and sizes of another of the same ops and values."""
        return self.with_measures(
            workspaces=[op.workspace for op in other.ops],
            sizes=[value.size for value in other.values],
        )

    # -- in and out ------------------------------------------------------------------------

    @classmethod
    def from_networkx(cls, graph: Any, *, name: str | None = None) -> Graph:
        """Make a graph from a networkx DAG: one node is one op that makes one value.

        Node attributes: `size` (bytes, default 1), `cost` (default 1), and optionally
        `workspace`, `phase`, `recomputable`, `pinned`. An edge (u, v) means that v reads u.
        The reference order is the order of the nodes where that is topological, else the
        first topological order in the order of the nodes.

        Raises
        ------
        GraphError
            If the graph is not directed or has a cycle (which is named).
        """
        ops, values = parts_of_networkx(graph)
        return cls(ops, values, name=name or str(graph.name or "graph"))

    def to_networkx(self) -> Any:
        """The ops as a networkx DiGraph, with `size` the sum of what an op makes."""
        return networkx_of(self.ops, self.values, self.arrays, name=self.name)

    def to_json(self) -> dict[str, Any]:
        """The graph as plain data; `from_json` is the way back."""
        return json_of(self.ops, self.values, name=self.name, boundary=self.boundary)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Graph:
        """Make a graph from what `to_json` gives.

        Raises
        ------
        GraphError
            If the data has another format or version, or breaks a rule of the graph.
        """
        ops, values = parts_of_json(data)
        return cls(ops, values, name=data.get("name", "graph"), boundary=data.get("boundary"))
