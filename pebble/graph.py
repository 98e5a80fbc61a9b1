"""The computation graph: ops that compute, values that occupy memory. No torch here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pebble.errors import GraphError

IntArray = NDArray[np.int64]
JSON_FORMAT = "pebble-graph"
JSON_VERSION = 1
_LARGEST_TOTAL = 2**62


class Phase(StrEnum):
    """The half of a training step that an op belongs to in the un-planned step."""

    FORWARD = "forward"
    BACKWARD = "backward"


@dataclass(frozen=True, slots=True)
class Op:
    """One computation.

    Parameters
    ----------
    name : str
        Unique in its graph.
    cost : int
        Time of one execution, in nanoseconds (any integer unit for abstract graphs).
    inputs, outputs : tuple of int
        Indices of the values that are read and made. An op may make several values.
    workspace : int
        Bytes that exist only while the op runs.
    phase : Phase
        Where the un-planned step runs it.
    recomputable : bool
        Whether it may run more than once (a random draw or a collective may not).
    kind : str
        What it computes, such as ``aten.mm.default``; part of the fingerprint.
    module : str
        Path of the module it comes from, such as ``transformer.h.0.mlp``.
    """

    name: str
    cost: int
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    workspace: int = 0
    phase: Phase = Phase.FORWARD
    recomputable: bool = True
    kind: str = ""
    module: str = ""


@dataclass(frozen=True, slots=True)
class Value:
    """One storage. Views of a storage are the same value.

    Parameters
    ----------
    name : str
        Unique in its graph.
    size : int
        Bytes.
    external : bool
        Parameters and inputs: made by no op, always there, not on the meter of the schedule.
    pinned : bool
        An output of the step: its first copy lives to the end of the step. Executing its
        producer again makes a duplicate that dies in the same step.
    spec : str
        Dtype and shape, such as ``f32[8, 512]``; part of the fingerprint.
    """

    name: str
    size: int
    external: bool = False
    pinned: bool = False
    spec: str = ""


@dataclass(frozen=True)
class GraphArrays:
    """A graph as flat integer arrays (CSR), for the referee and for solvers.

    External values are left out of `in_val` and have size 0 and producer -1 here: whoever
    counts bytes or orders ops never has to ask whether a value is external.

    Attributes
    ----------
    cost, workspace : IntArray, shape (n_ops,)
    recomputable : bool array, shape (n_ops,)
    size, producer : IntArray, shape (n_values,)
    pinned : bool array, shape (n_values,)
    in_ptr, in_val : op i reads the distinct values ``in_val[in_ptr[i]:in_ptr[i + 1]]``
    out_ptr, out_val : op i makes ``out_val[out_ptr[i]:out_ptr[i + 1]]``
    use_ptr, use_op : value v is read by the ops ``use_op[use_ptr[v]:use_ptr[v + 1]]``, ascending
    """

    cost: IntArray
    workspace: IntArray
    recomputable: NDArray[np.bool_]
    size: IntArray
    producer: IntArray
    pinned: NDArray[np.bool_]
    in_ptr: IntArray
    in_val: IntArray
    out_ptr: IntArray
    out_val: IntArray
    use_ptr: IntArray
    use_op: IntArray


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
        self._check()

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, ops={len(self.ops)}, values={len(self.values)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        return (self.ops, self.values, self.boundary) == (other.ops, other.values, other.boundary)

    def __hash__(self) -> int:
        return hash((self.ops, self.values, self.boundary))

    # -- rules -----------------------------------------------------------------------------

    def _check(self) -> None:
        _check_unique("op", (op.name for op in self.ops))
        _check_unique("value", (value.name for value in self.values))
        for value in self.values:
            _check_number(f"size of value {value.name!r}", value.size)
        for op in self.ops:
            _check_number(f"cost of op {op.name!r}", op.cost)
            _check_number(f"workspace of op {op.name!r}", op.workspace)
        totals = (
            ("sizes", sum(v.size for v in self.values) + sum(op.workspace for op in self.ops)),
            ("costs", self.total_cost),
        )
        for what, total in totals:
            if total > _LARGEST_TOTAL:
                raise GraphError(
                    f"The {what} of graph {self.name!r} sum to {total}, above 2**62; "
                    "use a larger unit."
                )
        self._check_wiring()
        if self.boundary is not None and not 0 <= self.boundary < len(self.ops):
            raise GraphError(
                f"The boundary of graph {self.name!r} is op {self.boundary}, but there are "
                f"{len(self.ops)} ops; pass the index of one of them, or None."
            )

    def _check_wiring(self) -> None:
        made_by: dict[int, str] = {}
        for op in self.ops:
            for v in (*op.inputs, *op.outputs):
                if not 0 <= v < len(self.values):
                    raise GraphError(
                        f"Op {op.name!r} names value {v}, but graph {self.name!r} has values "
                        f"0 to {len(self.values) - 1}."
                    )
            for v in op.outputs:
                if self.values[v].external:
                    raise GraphError(
                        f"Op {op.name!r} makes value {self.values[v].name!r}, which is external; "
                        "external values (parameters, inputs) are made by no op."
                    )
                if v in made_by:
                    raise GraphError(
                        f"Value {self.values[v].name!r} is made by op {made_by[v]!r} and by op "
                        f"{op.name!r}; give each op a value of its own."
                    )
                made_by[v] = op.name
        for i, value in enumerate(self.values):
            if not value.external and i not in made_by:
                raise GraphError(
                    f"Value {value.name!r} is made by no op; mark it external or add its producer."
                )
        done: set[int] = set()
        for op in self.ops:
            for v in op.inputs:
                if not self.values[v].external and v not in done:
                    raise GraphError(
                        f"Op {op.name!r} reads value {self.values[v].name!r} before op "
                        f"{made_by[v]!r} makes it; list the ops in a topological order."
                    )
            done.update(op.outputs)

    # -- derived ---------------------------------------------------------------------------

    @property
    def total_cost(self) -> int:
        """Cost of running every op once."""
        return sum(op.cost for op in self.ops)

    @cached_property
    def arrays(self) -> GraphArrays:
        """The graph as flat arrays; made once."""
        internal = [not value.external for value in self.values]
        inputs = [[v for v in dict.fromkeys(op.inputs) if internal[v]] for op in self.ops]
        readers: list[list[int]] = [[] for _ in self.values]
        producer = np.full(len(self.values), -1, np.int64)
        for i, op in enumerate(self.ops):
            for v in inputs[i]:
                readers[v].append(i)
            producer[list(op.outputs)] = i
        in_ptr, in_val = _csr(inputs)
        out_ptr, out_val = _csr([op.outputs for op in self.ops])
        use_ptr, use_op = _csr(readers)
        return GraphArrays(
            cost=np.array([op.cost for op in self.ops], np.int64),
            workspace=np.array([op.workspace for op in self.ops], np.int64),
            recomputable=np.array([op.recomputable for op in self.ops], np.bool_),
            size=np.array([0 if v.external else v.size for v in self.values], np.int64),
            producer=producer,
            pinned=np.array([v.pinned and not v.external for v in self.values], np.bool_),
            in_ptr=in_ptr,
            in_val=in_val,
            out_ptr=out_ptr,
            out_val=out_val,
            use_ptr=use_ptr,
            use_op=use_op,
        )

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
        self, *, costs: Sequence[int] | None = None, workspaces: Sequence[int] | None = None
    ) -> Graph:
        """The same graph with other costs or workspaces, one integer an op."""
        ops = [
            replace(
                op,
                cost=op.cost if costs is None else int(costs[i]),
                workspace=op.workspace if workspaces is None else int(workspaces[i]),
            )
            for i, op in enumerate(self.ops)
        ]
        return Graph(ops, self.values, name=self.name, boundary=self.boundary)

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
        import networkx as nx

        if not graph.is_directed():
            raise GraphError("The networkx graph is undirected; pass a DiGraph of who reads whom.")
        nodes = list(graph.nodes)
        position = {u: i for i, u in enumerate(nodes)}
        if any(position[u] >= position[v] for u, v in graph.edges):
            try:
                nodes = list(nx.lexicographical_topological_sort(graph, key=position.__getitem__))
            except nx.NetworkXUnfeasible:
                loop = [str(u) for u, *_ in nx.find_cycle(graph)]
                raise GraphError(
                    f"The graph has a cycle: {' -> '.join([*loop, loop[0]])}; "
                    "a computation graph must be acyclic."
                ) from None
            position = {u: i for i, u in enumerate(nodes)}
        ops, values = [], []
        for i, u in enumerate(nodes):
            data = graph.nodes[u]
            reads = tuple(sorted({position[p] for p in graph.predecessors(u)}))
            ops.append(
                Op(
                    str(u),
                    data.get("cost", 1),
                    reads,
                    (i,),
                    workspace=data.get("workspace", 0),
                    phase=Phase(data.get("phase", Phase.FORWARD)),
                    recomputable=data.get("recomputable", True),
                )
            )
            values.append(Value(str(u), data.get("size", 1), pinned=data.get("pinned", False)))
        return cls(ops, values, name=name or str(graph.name or "graph"))

    def to_networkx(self) -> Any:
        """The ops as a networkx DiGraph, with `size` the sum of what an op makes."""
        import networkx as nx

        arrays = self.arrays
        graph = nx.DiGraph(name=self.name)
        for op in self.ops:
            graph.add_node(
                op.name,
                size=sum(self.values[v].size for v in op.outputs),
                cost=op.cost,
                workspace=op.workspace,
                phase=str(op.phase),
                recomputable=op.recomputable,
                pinned=any(self.values[v].pinned for v in op.outputs),
            )
        for i, op in enumerate(self.ops):
            for v in arrays.in_val[arrays.in_ptr[i] : arrays.in_ptr[i + 1]]:
                graph.add_edge(self.ops[int(arrays.producer[v])].name, op.name)
        return graph

    def to_json(self) -> dict[str, Any]:
        """The graph as plain data; `from_json` is the way back."""
        return {
            "format": JSON_FORMAT,
            "schema_version": JSON_VERSION,
            "name": self.name,
            "boundary": self.boundary,
            "ops": [_without_defaults(op) for op in self.ops],
            "values": [_without_defaults(value) for value in self.values],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Graph:
        """Make a graph from what `to_json` gives.

        Raises
        ------
        GraphError
            If the data has another format or version, or breaks a rule of the graph.
        """
        if not isinstance(data, Mapping) or data.get("format") != JSON_FORMAT:
            raise GraphError(f'This JSON is no graph: it has no "format": "{JSON_FORMAT}".')
        if data.get("schema_version") != JSON_VERSION:
            raise GraphError(
                f"This graph has schema version {data.get('schema_version')}; "
                f"this release reads version {JSON_VERSION}."
            )
        try:
            ops = [_op_from_json(item) for item in data["ops"]]
            values = [Value(**item) for item in data["values"]]
        except (KeyError, TypeError, ValueError) as error:
            raise GraphError(f"This graph's JSON is damaged: {error}.") from None
        return cls(ops, values, name=data.get("name", "graph"), boundary=data.get("boundary"))


def _op_from_json(item: Mapping[str, Any]) -> Op:
    fields = dict(item)
    fields["inputs"] = tuple(fields.get("inputs", ()))
    fields["outputs"] = tuple(fields.get("outputs", ()))
    fields["phase"] = Phase(fields.get("phase", Phase.FORWARD))
    return Op(**fields)


def _without_defaults(item: Op | Value) -> dict[str, Any]:
    fields = type(item).__dataclass_fields__
    data = {key: getattr(item, key) for key in fields}
    return {key: value for key, value in data.items() if value != fields[key].default}


def _csr(rows: Sequence[Sequence[int]]) -> tuple[IntArray, IntArray]:
    pointers = np.zeros(len(rows) + 1, np.int64)
    np.cumsum([len(row) for row in rows], out=pointers[1:])
    return pointers, np.array([x for row in rows for x in row], np.int64)


def _check_unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise GraphError(f"Two {what}s are called {name!r}; names must be unique.")
        seen.add(name)


def _check_number(what: str, number: object) -> None:
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
        raise GraphError(f"The {what} is {number!r}; it must be an integer.")
    if number < 0:
        raise GraphError(f"The {what} is {number}; it must not be negative.")
