"""Ops and values from networkx graphs and JSON, and the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pebble.arrays import GraphArrays
from pebble.errors import GraphError
from pebble.ops import Op, Phase, Value
from pebble.ordering import Cycle, cycle_text, topological_order
from pebble.schema import check_data, shortened

JSON_FORMAT = "pebble-graph"

JSON_VERSION = 1


def parts_of_networkx(graph: Any) -> tuple[list[Op], list[Value]]:
    """Ops and values of a networkx DAG, see `pebble.graph.Graph.from_networkx`."""
    if not getattr(graph, "is_directed", lambda: False)():
        raise GraphError(
            "The graph is no directed networkx graph; pass a DiGraph of who reads whom."
        )
    nodes = list(graph.nodes)
    position = {u: i for i, u in enumerate(nodes)}
    if any(position[u] >= position[v] for u, v in graph.edges()):
        try:
            order = topological_order([[position[p] for p in graph.pred[u]] for u in nodes])
        except Cycle as cycle:
            raise GraphError(
                f"The graph has a cycle: {cycle_text([nodes[i] for i in cycle.nodes])}; "
                "a computation graph must be acyclic."
            ) from None
        nodes = [nodes[i] for i in order]
        position = {u: i for i, u in enumerate(nodes)}
    ops, values = [], []
    for i, u in enumerate(nodes):
        data = graph.nodes[u]
        reads = tuple(sorted(position[p] for p in graph.pred[u]))
        ops.append(
            Op(
                str(u),
                data.get("cost", 1),
                reads,
                (i,),
                workspace=data.get("workspace", 0),
                phase=_phase(u, data.get("phase", Phase.FORWARD)),
                recomputable=data.get("recomputable", True),
            )
        )
        values.append(Value(str(u), data.get("size", 1), pinned=data.get("pinned", False)))
    return ops, values


def _phase(node: Any, phase: Any) -> Phase:
    try:
        return Phase(phase)
    except ValueError:
        raise GraphError(
            f"The phase of node {shortened(node)} is {shortened(phase)}; choose one of "
            f"{', '.join(map(repr, map(str, Phase)))}."
        ) from None


def networkx_of(
    ops: Sequence[Op], values: Sequence[Value], arrays: GraphArrays, *, name: str
) -> Any:
    """The ops as a networkx DiGraph, see `pebble.graph.Graph.to_networkx`."""
    import networkx as nx

    graph = nx.DiGraph(name=name)
    for op in ops:
        graph.add_node(
            op.name,
            size=sum(values[v].size for v in op.outputs),
            cost=op.cost,
            workspace=op.workspace,
            phase=str(op.phase),
            recomputable=op.recomputable,
            pinned=any(values[v].pinned for v in op.outputs),
        )
    for i, op in enumerate(ops):
        for v in arrays.in_val[arrays.in_ptr[i] : arrays.in_ptr[i + 1]]:
            graph.add_edge(ops[int(arrays.producer[v])].name, op.name)
    return graph


def json_of(
    ops: Sequence[Op], values: Sequence[Value], *, name: str, boundary: int | None
) -> dict[str, Any]:
    """A graph as plain data, see `pebble.graph.Graph.to_json`."""
    return {
        "format": JSON_FORMAT,
        "schema_version": JSON_VERSION,
        "name": name,
        "boundary": boundary,
        "ops": [_without_defaults(op) for op in ops],
        "values": [_without_defaults(value) for value in values],
    }


def parts_of_json(data: Mapping[str, Any]) -> tuple[list[Op], list[Value]]:
    """Ops and values of plain data, see `pebble.graph.Graph.from_json`."""
    if not isinstance(data, Mapping) or data.get("format") != JSON_FORMAT:
        raise GraphError(f'This JSON is no graph: it has no "format": "{JSON_FORMAT}".')
    if data.get("schema_version") != JSON_VERSION:
        raise GraphError(
            f"This graph has schema version {shortened(data.get('schema_version'))}; "
            f"this release reads version {JSON_VERSION}."
        )
    check_data(data, _form, what="This graph's JSON is damaged", error=GraphError)
    return [_op_from_json(item) for item in data["ops"]], [Value(**v) for v in data["values"]]


def _form() -> Any:
    from pebble.graph_schema import GraphForm

    return GraphForm


def _op_from_json(item: Mapping[str, Any]) -> Op:
    fields = dict(item)
    fields["inputs"] = tuple(fields.get("inputs", ()))
    fields["outputs"] = tuple(fields.get("outputs", ()))
    fields["phase"] = Phase(fields.get("phase", Phase.FORWARD))
    return Op(**fields)


def _without_defaults(item: Op | Value) -> dict[str, Any]:
    fields = type(item).__dataclass_fields__
    data = {key: getattr(item, key) for key in fields}
    data |= {key: int(value) for key, value in data.items() if isinstance(value, np.integer)}
    return {key: value for key, value in data.items() if value != fields[key].default}
