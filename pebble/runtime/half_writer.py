"""One half of a planned step, written op by op into an fx graph."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from pebble.errors import PebbleError
from pebble.runtime.boxed_code import hand_over
from pebble.tracing.aten_rules import idle_inputs
from pebble.tracing.captured import Captured
from pebble.tracing.signature import overwritten_inputs
from pebble.tracing.sparse_gradients import SparseGradient
from pebble.tracing.torch_private.sparse_rows import sparse_tensor

aten = torch.ops.aten


class HalfWriter:
    """Writes one half, step by step.

    Parameters
    ----------
    captured : Captured
    before : HalfWriter or None
        Of the forward half, where this is the backward.
    copy_idle : bool
        See `pebble.runtime.split_graphs.split`.

    Notes
    -----
    `latest` maps a node of the joint graph to its most recent copy.
    """

    def __init__(
        self, captured: Captured, before: HalfWriter | None, *, copy_idle: bool = False
    ) -> None:
        self.captured = captured
        self.before = before
        self.copy_idle = copy_idle
        self.graph = fx.Graph()
        self.latest: dict[fx.Node, fx.Node] = {}
        self.views: dict[fx.Node, tuple[tuple[fx.Node, ...], fx.Node]] = {}
        self.imports: list[tuple[fx.Node, fx.Node]] = []  # joint node, its copy in the half before
        self.copied: list[fx.Node] = []
        self.idle: dict[fx.Node, fx.Node] = {}  # inputs whose contents may have changed
        self.overwritten = overwritten_inputs(captured.slots, captured.outputs)
        self.fed = {slot.node for slot in captured.slots if slot.fed}
        self.ops = {node for nodes in captured.op_nodes for node in nodes}
        self.first_tangent: fx.Node | None = None

    def place(self, node: fx.Node) -> fx.Node:
        """Make a placeholder for a node of the joint graph."""
        new = self.graph.placeholder(node.name)
        new.meta = dict(node.meta)
        self.latest[node] = new
        if self.first_tangent is None:
            self.first_tangent = new
        return new

    def execute(self, op: int) -> None:
        """Write one step: the nodes of an op, reading the most recent copies."""
        made: dict[fx.Node, fx.Node] = {}
        for node in self.captured.op_nodes[op]:
            idle = idle_inputs(node)

            def source(arg: fx.Node, idle: frozenset[fx.Node] = idle) -> fx.Node:
                return made[arg] if arg in made else self.read(arg, idle=arg in idle)

            made[node] = self.graph.node_copy(node, source)
        for node, copy in made.items():
            if not (self._is_pinned(node) and self._made_before(node)):
                self.latest[node] = copy

    def read(self, node: fx.Node, *, idle: bool = False) -> fx.Node:
        """The most recent copy of a node: from this half, the half before, or made as a view."""
        if node in self.latest:
            return self.latest[node]
        if idle and node in self.idle:
            return self.idle[node]
        if node.op == "get_attr" and node not in self.fed:
            self.latest[node] = self.graph.node_copy(node)
            return self.latest[node]
        if node in self.ops or node.op == "placeholder" or node in self.fed:
            return self._import(node, idle)
        return self._view(node, idle)

    def gradient(self, node: fx.Node | None, sparse: SparseGradient | None) -> fx.Node:
        """A gradient as autograd receives it; sparse: the rest of it, where it is rows."""
        assert node is not None
        values = self.read(node)
        if sparse is None:
            return values
        given = (self.read(sparse.indices), values, sparse.rows)
        made = self.graph.call_function(sparse_tensor, given)
        made.meta = dict(values.meta)
        return made

    def hand_over(self, given: fx.Node, index: int) -> fx.Node:
        """Give a gradient to the caller, now."""
        made = self.graph.call_function(hand_over, (given, index))
        made.meta = dict(given.meta)
        return made

    def finish(self, results: Sequence[Any], name: str) -> fx.GraphModule:
        """Close the graph and drop what a step made but nobody reads (tuple items, views)."""
        self.graph.output(tuple(results))
        for node in reversed(self.graph.nodes):
            if node.target is operator.getitem and not node.users:
                self.graph.erase_node(node)
        self.graph.lint()
        return fx.GraphModule(self.captured.joint, self.graph, name)

    # -- inside ------------------------------------------------------------------------------

    def _view(self, node: fx.Node, idle: bool) -> fx.Node:
        # A view that has been made is shared while its base is the same copy: its readers read
        # the base too, so it ends no later than the base does.
        bases = tuple(self.read(arg, idle=idle) for arg in node.all_input_nodes)
        known = self.views.get(node)
        if known is not None and known[0] == bases:
            return known[1]
        copy = self.graph.node_copy(node, dict(zip(node.all_input_nodes, bases)).__getitem__)
        self.views[node] = (bases, copy)
        return copy

    def _import(self, node: fx.Node, idle: bool) -> fx.Node:
        """A placeholder of this half for a tensor that the half before hands over."""
        if self.before is None or node not in self.before.latest:
            raise PebbleError(
                f"Node {node.name!r} is read before any step has made it; the capture and its "
                "graph disagree. Please report this with the model."
            )
        handed = self.before.latest[node]
        changing = node in self.overwritten
        if changing and (self.copy_idle or not idle):
            handed = self.before.graph.call_function(aten.clone.default, (handed,))
            handed.meta = dict(node.meta)
            self.copied.append(node)
        assert self.first_tangent is not None, "a backward half has a tangent"
        with self.graph.inserting_before(self.first_tangent):
            new = self.graph.placeholder(node.name)
        new.meta = dict(node.meta)
        self.imports.append((node, handed))
        (self.idle if changing and not self.copy_idle and idle else self.latest)[node] = new
        return new

    def _is_pinned(self, node: fx.Node) -> bool:
        value = self.captured.value_of.get(node)
        return value is not None and self.captured.graph.values[value].pinned

    def _made_before(self, node: fx.Node) -> bool:
        return node in self.latest or (self.before is not None and node in self.before.latest)
