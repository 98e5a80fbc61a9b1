"""Eager's cache of cast weights: under autocast a weight is cast once, and so is its gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from pebble.tracing.call_writer import CallWriter
from pebble.tracing.forward_graph import ForwardGraph
from pebble.tracing.signature import results_of
from pebble.tracing.torch_private.autocast_regions import (
    cast_regions,
    casts_are_cached,
    inside_autocast,
    may_be_cached,
)
from pebble.tracing.torch_private.joint_export import EndKind, JointTrace
from pebble.tracing.torch_private.operators import TO_COPY
from pebble.tracing.torch_private.storages import storage_id

aten = torch.ops.aten

# Casts that the forward writes itself; autocast neither makes nor caches them.
_WRITTEN = frozenset(("to", "_to_copy", "type", "type_as", "bfloat16", "half"))


@dataclass(frozen=True)
class _Cast:
    """A cast of a weight, and the cast of its gradient on the way back (None without one)."""

    forward: fx.Node
    backward: fx.Node | None


def share_weight_casts(joint: JointTrace, forward: ForwardGraph) -> bool | None:
    """Cast each weight once in a region of autocast, and the sum of its gradients once, in place.

    A traced graph casts a weight again at every use and sums the gradients in the weight's own
    precision. Eager keeps the first cast until autocast is left, so that the gradients meet in
    the low precision and their sum is cast: other bits, which are the ones to be had here.

    Returns
    -------
    bool or None
        Whether the surroundings keep cast weights; None where no weight is cast more than once.
    """
    regions = cast_regions(forward.graph_module.graph)
    cached, several = casts_are_cached(), False
    graph = joint.graph_module.graph
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    weights = {
        end[1]: node
        for node, end in zip(placeholders, joint.inputs)
        if end is not None and end[0] is EndKind.INPUT and may_be_cached(forward.tensors[end[1]])
    }
    written = _written_casts(forward.graph_module.graph)
    changed = False
    for k, end in enumerate(joint.outputs):
        gradient = results_of(graph)[k]
        if end is None or end[0] is not EndKind.GRADIENT or not isinstance(gradient, fx.Node):
            continue
        if end[1] in weights:
            several |= _cast_again(weights[end[1]], written)
            if not regions and not cached:
                continue
            for casts in _cached_together(weights[end[1]], regions, written):
                changed |= _share(graph, casts, k)
    if changed:
        graph.lint()
        joint.graph_module.recompile()
    known = inside_autocast() or not regions  # else every region of the forward has its own cache
    return cached if several and known else None


def _written_casts(graph: fx.Graph) -> frozenset[str]:
    names = ((n.name, getattr(n.target, "__name__", str(n.target))) for n in graph.nodes)
    return frozenset(name for name, target in names if target in _WRITTEN)


def _cached_together(
    weight: fx.Node, regions: Mapping[str, int | None], written: frozenset[str]
) -> list[list[fx.Node]]:
    """The casts of a weight that eager makes once, in the order of the forward."""
    groups: dict[tuple[Any, int], list[fx.Node]] = {}
    for node in weight.graph.nodes:
        if node.target is not TO_COPY or node.args[0] is not weight:
            continue
        dtype = node.kwargs.get("dtype")
        source = _source(node)
        region = regions.get(source, None if regions else 0)
        half = dtype in (torch.bfloat16, torch.float16)
        if half and region is not None and source not in written:
            groups.setdefault((dtype, region), []).append(node)
    return [casts for casts in groups.values() if len(casts) > 1]


def _cast_again(weight: fx.Node, written: frozenset[str]) -> bool:
    """Whether autocast casts a weight more than once where nothing is kept."""
    halves = (torch.bfloat16, torch.float16)
    made = [
        node.kwargs.get("dtype")
        for node in weight.users
        if node.target is TO_COPY and _source(node) not in written
    ]
    return any(made.count(half) > 1 for half in halves)


def _source(node: fx.Node) -> str:
    """Name of the node of the forward that a node of the joint graph was traced from."""
    sources: Any = node.meta.get("from_node") or ()
    return str(sources[0].name) if sources else ""


def _share(graph: fx.Graph, nodes: list[fx.Node], k: int) -> bool:
    """Make one cast of several, and one of those of their gradients, which output `k` sums."""
    gradient = results_of(graph)[k]
    adds, terms = _sum_of(gradient)
    back = {
        term.meta.get("seq_nr"): term
        for term in terms
        if term.target is TO_COPY and set(term.users) <= {*adds, graph.output_node()}
    }
    casts = [_Cast(node, back.get(node.meta.get("seq_nr"))) for node in nodes]
    casts = [cast for cast in casts if cast.backward is not None]
    if len(casts) < 2:
        return False
    first = casts[0].forward
    for cast in casts[1:]:
        _replace_cast(cast.forward, first)
    merged = {cast.backward for cast in casts}
    _sum_before_cast(graph, adds, terms, merged, k)
    return True


def _sum_of(gradient: fx.Node) -> tuple[list[fx.Node], list[fx.Node]]:
    """The additions that make a gradient, and what they add, both in order."""
    adds: list[fx.Node] = []
    last: list[fx.Node] = []
    node = gradient
    while node.target is aten.add.Tensor and not node.kwargs and _plain_sum(node):
        adds.append(node)
        last.append(node.args[1])  # type: ignore[arg-type]
        node = node.args[0]  # type: ignore[assignment]
    return adds[::-1], [node, *reversed(last)]


def _plain_sum(node: fx.Node) -> bool:
    terms = [a for a in node.args if isinstance(a, fx.Node)]
    alone = node.args[0] is not node.args[1] and len(node.users) == 1
    return len(terms) == len(node.args) == 2 and alone


def _replace_cast(cast: fx.Node, first: fx.Node) -> None:
    """Put a cast's earlier twin in its place; views of it become views of the twin."""
    old = storage_id(cast.meta["val"])
    users = list(cast.users)
    cast.replace_all_uses_with(first)
    cast.graph.erase_node(cast)
    mode = first.meta["val"].fake_mode
    while users:
        node = users.pop(0)
        if node.op != "call_function" or not _shows(node.meta.get("val"), old):
            continue
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
        with mode:
            node.meta["val"] = node.target(*args, **kwargs)  # type: ignore[operator]
        users += node.users


def _shows(value: Any, storage: int) -> bool:
    made: Iterable[Any] = value if isinstance(value, (tuple, list)) else (value,)
    return any(isinstance(t, torch.Tensor) and storage_id(t) == storage for t in made)


def _sum_before_cast(
    graph: fx.Graph, adds: list[fx.Node], terms: list[fx.Node], merged: set[Any], k: int
) -> None:
    """Sum the gradients of several casts in their own precision, and cast the sum."""
    order = [term for term in terms if term in merged]
    mode = order[0].meta["val"].fake_mode
    low: Any = order[0].args[0]
    for term in order[1:]:
        with graph.inserting_before(term):
            low = CallWriter(graph, mode, term).call(aten.add.Tensor, low, term.args[0])
    last = order[-1]
    with graph.inserting_before(last):
        cast = CallWriter(graph, mode, last).call(last.target, low, **last.kwargs)

    total: fx.Node | None = None
    for term, add in zip(terms, [None, *adds]):
        if term in merged and term is not last:
            continue
        term = cast if term is last else term
        if total is None or add is None:
            total = term
            continue
        add.args = (total, term)
        with mode:
            add.meta["val"] = aten.add.Tensor(total.meta["val"], term.meta["val"])
        total = add
    assert total is not None
    results = results_of(graph)
    results[k] = total
    graph.output_node().args = (results,)
    for node in (*reversed(adds), *order):
        if not node.users and node is not total:
            graph.erase_node(node)
