"""A joint fx graph becomes a pebble Graph: storages are values, views are free."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from pebble.errors import CaptureError
from pebble.graph import Graph, Op, Phase, Value
from pebble.tracing.aten_rules import has_effect, idle_inputs, may_repeat
from pebble.tracing.op_labels import module_path, source_line
from pebble.tracing.op_texts import Inlined, describe, op_kind
from pebble.tracing.signature import StepSignature
from pebble.tracing.torch_private.storages import storage_id

BOUNDARY_KIND = "pebble.boundary"


@dataclass(frozen=True)
class BuiltGraph:
    """A Graph and the map between it and the fx nodes; see `pebble.tracing.Captured`."""

    graph: Graph
    op_nodes: tuple[tuple[fx.Node, ...], ...]
    value_of: Mapping[fx.Node, int]
    views: frozenset[fx.Node]
    value_source: tuple[fx.Node, ...]


def build_graph(
    joint: fx.GraphModule,
    signature: StepSignature,
    *,
    name: str,
    loss_outside: bool = False,
    inlined: frozenset[fx.Node] = frozenset(),
) -> BuiltGraph:
    """The pebble Graph of a joint graph, in the joint graph's own order.

    With `loss_outside` the caller computes the loss: it and its root gradient are a value more.
    Nodes that are `inlined` are no ops and no values: whoever reads one computes it (see
    `pebble.tracing.fused_groups`).

    Raises
    ------
    CaptureError
        If a size is symbolic.
    """
    builder = _Builder(signature, inlined)
    for node in signature.inputs:
        builder.external(node)
    before, after = _halves(joint.graph, signature)
    for node in before:
        builder.add(node, Phase.FORWARD)
    boundary = builder.boundary(loss_outside)
    for node in after:
        builder.add(node, Phase.BACKWARD)
    graph = Graph(builder.ops, builder.finished_values(), name=name, boundary=boundary)
    return BuiltGraph(
        graph,
        tuple(builder.op_nodes),
        builder.value_of,
        frozenset(builder.views),
        tuple(builder.source),
    )


def _halves(graph: fx.Graph, signature: StepSignature) -> tuple[list[fx.Node], list[fx.Node]]:
    """The call nodes before and after the boundary, each in the graph's order.

    The boundary stands before the first node that depends on a tangent; what a forward output
    needs comes before it in any case.
    """
    needed = set(signature.handed)
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    dependent = set(signature.tangents)
    before: list[fx.Node] = []
    after: list[fx.Node] = []
    begun = False
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        if not dependent.isdisjoint(node.all_input_nodes):
            dependent.add(node)
            begun = True
        (after if begun and node not in needed else before).append(node)
    return before, after


@dataclass
class _Builder:
    """Grows the ops and values node by node."""

    signature: StepSignature
    chosen: frozenset[fx.Node]
    ops: list[Op] = field(default_factory=list)
    op_nodes: list[tuple[fx.Node, ...]] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    source: list[fx.Node] = field(default_factory=list)
    value_of: dict[fx.Node, int] = field(default_factory=dict)
    views: set[fx.Node] = field(default_factory=set)
    inlined: dict[fx.Node, Inlined] = field(default_factory=dict)
    by_storage: dict[int, int] = field(default_factory=dict)
    grouped: set[fx.Node] = field(default_factory=set)
    stale: set[fx.Node] = field(default_factory=set)  # overwritten inputs and views of them
    turn: int | None = None  # empty value that the next op with an effect reads; see `_take_turn`

    def external(self, node: fx.Node) -> None:
        self._value(node, node.meta["val"], external=True)
        if node in self.signature.overwritten:
            self.stale.add(node)

    def boundary(self, loss_outside: bool) -> int:
        reads = [self.value_of[node] for node in self.signature.handed]
        reads += [] if self.turn is None else [self.turn]
        made = [self._value(node, node.meta["val"])[0] for node in self.signature.tangents]
        if loss_outside:
            made.append(self._outside_loss())
        self.ops.append(
            Op(
                "boundary", 0, tuple(dict.fromkeys(reads)), tuple(made),
                recomputable=False, kind=BOUNDARY_KIND,
            )
        )  # fmt: skip
        self.op_nodes.append(())
        return len(self.ops) - 1

    def _outside_loss(self) -> int:
        first = self.signature.tangents[0]
        size = 2 * first.meta["val"].itemsize
        self.values.append(Value("loss", size, pinned=True, spec="loss and root gradient"))
        self.source.append(first)
        return len(self.values) - 1

    def finished_values(self) -> list[Value]:
        pinned = {
            self.value_of[node]
            for node in (*self.signature.kept, *self.signature.gradients, *self.signature.tangents)
        }
        return [
            Value(v.name, v.size, v.external, v.pinned or (i in pinned and not v.external), v.spec)
            for i, v in enumerate(self.values)
        ]

    def add(self, node: fx.Node, phase: Phase) -> None:
        """An op, a view, or a part of an op that is already there."""
        if node in self.grouped:
            return
        made = node.meta.get("val")
        if node in self.chosen:
            self._inline(node)
        elif isinstance(made, torch.Tensor):
            value, fresh = self._value(node, made)
            if fresh:
                self._op((node,), [value], phase)
            else:
                self._view(node)
        elif isinstance(made, (tuple, list)):
            self._several(node, made, phase)
        elif made is None:
            self._op((node,), [], phase)  # an effect, such as a collective's wait
        else:
            raise CaptureError(
                f"Node {node.name!r} of the traced step makes a {type(made).__name__}, a size "
                "that depends on data; pebble plans steps of fixed shapes."
            )

    def _several(self, node: fx.Node, made: Sequence[Any], phase: Phase) -> None:
        items = [u for u in node.users if u.target is operator.getitem]
        self.grouped.update(items)
        by_index: dict[Any, list[fx.Node]] = {}
        for item in items:
            by_index.setdefault(item.args[1], []).append(item)
        values = []
        for k, tensor in enumerate(made):
            if not isinstance(tensor, torch.Tensor):
                continue
            readers = by_index.get(k, [])
            name = readers[0].name if readers else f"{node.name}.{k}"
            value, fresh = self._value(readers[0] if readers else node, tensor, name=name)
            self.value_of.update(dict.fromkeys(readers, value))
            if fresh:
                values.append(value)
        if values:
            self.value_of.pop(node, None)
            self._op((node, *items), values, phase)
        else:
            self.value_of.pop(node, None)
            for view in (node, *items):
                self._view(view)

    def _inline(self, node: fx.Node) -> None:
        reads = self._reads(node)
        self.inlined[node] = Inlined.of(node, reads, self.value_of, self.views, self.inlined)
        if not self.stale.isdisjoint(node.all_input_nodes):
            self.stale.add(node)

    def _reads(self, node: fx.Node) -> tuple[int, ...]:
        """The values that a node reads, through what is computed on the way."""
        found: dict[int, None] = {}
        for arg in node.all_input_nodes:
            made = self.inlined.get(arg)
            found |= dict.fromkeys(made.leaves if made is not None else (self.value_of[arg],))
        return tuple(found)

    def _view(self, node: fx.Node) -> None:
        self.views.add(node)
        if not self.stale.isdisjoint(node.all_input_nodes):
            self.stale.add(node)

    def _value(
        self, node: fx.Node, tensor: torch.Tensor, *, external: bool = False, name: str = ""
    ) -> tuple[int, bool]:
        """The value of a tensor's storage, and whether it is new."""
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        if not isinstance(size, int):
            raise CaptureError(
                f"Node {node.name!r} of the traced step has the symbolic size {size}; pebble "
                "plans steps of fixed shapes. Pass inputs whose sizes are plain integers."
            )
        key = storage_id(storage)
        known = self.by_storage.get(key)
        if known is not None:
            self.value_of[node] = known
            return known, False
        self.by_storage[key] = self.value_of[node] = len(self.values)
        self.values.append(Value(name or node.name, size, external, False, describe(tensor)))
        self.source.append(node)
        return len(self.values) - 1, True

    def _op(self, nodes: tuple[fx.Node, ...], made: Iterable[int], phase: Phase) -> None:
        node, made = nodes[0], tuple(made)
        reads = self._reads(node)
        outdated = any(a in self.stale for a in node.all_input_nodes if a not in idle_inputs(node))
        before, after = self._take_turn(node) if has_effect(node) else ((), ())
        self.ops.append(
            Op(
                node.name,
                1,
                reads + before,
                tuple(made) + after,
                phase=phase,
                recomputable=not outdated and may_repeat(node),
                kind=op_kind(node, reads, self.value_of, self.views, self.inlined),
                module=module_path(node),
                source=source_line(node),
            )
        )
        self.op_nodes.append(nodes)

    def _take_turn(self, node: fx.Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """An empty value to read and one to make: ops with an effect run in their own order.

        A random draw depends on the draws before it; collectives must meet in the same order on
        every rank. No schedule may swap them, nor move one of the forward past the boundary.
        """
        before = () if self.turn is None else (self.turn,)
        self.turn = len(self.values)
        self.values.append(Value(f"turn_of_{node.name}", 0, spec="turn"))
        self.source.append(node)
        return before, (self.turn,)
