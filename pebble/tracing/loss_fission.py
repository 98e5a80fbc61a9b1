"""The chunks of a loss, written into a copy of the joint graph."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from pebble.tracing.call_writer import CallWriter
from pebble.tracing.loss_region import MEAN, SUM, Exit, Region, no_chunks
from pebble.tracing.row_forms import SAME_ROWS
from pebble.tracing.token_rows import TokenRows
from pebble.tracing.torch_private.operators import LOG_SOFTMAX, LOG_SOFTMAX_BACKWARD

aten = torch.ops.aten
_SLICES = frozenset((aten.slice.Tensor, aten.slice_backward.default))


class LossFission:
    """Writes the chunks into a copy of the joint graph; `new` maps old nodes to copies."""

    def __init__(
        self,
        graph: fx.Graph,
        region: Region,
        new: dict[fx.Node, fx.Node],
        chunks: int,
        tangents: frozenset[fx.Node],
    ) -> None:
        self.graph = graph
        self.region = region
        self.new = new
        self.rows = region.rows
        self.bounds = [self.rows * c // chunks for c in range(chunks + 1)]
        self.where = {node: i for i, node in enumerate(region.loss.graph.nodes)}
        self.hoisted: dict[fx.Node, fx.Node] = {}
        mode = region.softmax.meta["val"].fake_mode
        self.writer = CallWriter(graph, mode, region.loss)
        self.call = self.writer.call
        self.tokens = TokenRows(self.writer, region.cuts)
        self.late = _dependent(region.loss.graph, tangents)

    def run(self) -> dict[fx.Node, fx.Node]:
        """Write, and connect; returns what stands for the nodes of the copy that are replaced."""
        region = self.region
        last = max([region.loss, *self._items(region.loss)], key=self.where.__getitem__)
        with self._writing(self.new[last], before=False):
            loss, total, exits = self._chunks()
        replaced = self._replace_loss(loss)
        with self._writing(self.new[region.loss_backward], before=True):
            root = self.new[region.loss_backward.args[0]]  # type: ignore[index]
            scale = root
            if region.loss.args[3] == MEAN:
                scale = self.call(aten.div.Tensor, root, total)
        for node, made in exits.items():
            old = self.new[node]
            with self._writing(old, before=True):
                result = self.call(aten.mul.Tensor, self._restored(node, made), scale)
            old.replace_all_uses_with(result)
            replaced[old] = result
        return replaced

    # -- chunks ----------------------------------------------------------------------------------

    def _chunks(self) -> tuple[fx.Node, fx.Node, dict[fx.Node, fx.Node]]:
        """Loss, sum of the weights of its rows, and unscaled results of the exits."""
        region = self.region
        self.one = self.call(
            aten.full.default, [], 1.0, dtype=region.loss.meta["val"][0].dtype,
            device=region.softmax.meta["val"].device, pin_memory=False,
        )  # fmt: skip
        losses: fx.Node | None = None
        total: fx.Node | None = None
        parts: dict[fx.Node, list[fx.Node]] = {node: [] for node in region.exits}
        for a, b in zip(self.bounds, self.bounds[1:]):
            loss, weight = self._chunk(a, b, parts)
            losses = loss if losses is None else self.call(aten.add.Tensor, losses, loss)
            total = weight if total is None else self.call(aten.add.Tensor, total, weight)
        assert losses is not None and total is not None
        if region.loss.args[3] == MEAN:
            losses = self.call(aten.div.Tensor, losses, total)
        made = {
            node: self.call(aten.cat.default, found) if len(found) > 1 else found[0]
            for node, found in parts.items()
        }
        return losses, total, made

    def _chunk(
        self, a: int, b: int, parts: dict[fx.Node, list[fx.Node]]
    ) -> tuple[fx.Node, fx.Node]:
        region, made = self.region, dict[fx.Node, fx.Node]()
        loss: Any = region.loss
        target = self.call(aten.slice.Tensor, self._hoist(loss.args[1]), 0, a, b)
        weight = None if loss.args[2] is None else self._hoist(loss.args[2])
        results: list[fx.Node] = []
        for node in sorted((*region.forms, *region.exits), key=self.where.__getitem__):
            self.writer.like = node
            if node is region.entry:
                made[node] = self._entry(a, b)
            elif node is region.loss_backward:
                made[node] = self.call(
                    aten.nll_loss_backward.default, self.one, made[region.softmax], target,
                    weight, SUM, loss.args[4], results[1],
                )  # fmt: skip
            elif node in region.exits:
                self._exit(node, made, a, b, parts[node])
            else:
                made[node] = self._copy(node, made)
            if node is region.softmax:
                results = self._two(
                    aten.nll_loss_forward.default, made[node], target, weight, SUM, loss.args[4]
                )
        return results[0], results[1]

    def _entry(self, a: int, b: int) -> fx.Node:
        entry: Any = self.region.entry
        *bias, rows, weight = entry.args
        given = [self._hoist(node) for node in bias]
        part = self.tokens.chunk(self._hoist(rows), a, b)
        return self.call(entry.target, *given, part, self._hoist(weight), **entry.kwargs)

    def _copy(self, node: fx.Node, made: dict[fx.Node, fx.Node]) -> fx.Node:
        """A row-wise node on the rows of a chunk: all are matrices of rows by classes there."""
        if node.target in SAME_ROWS or node.target in _SLICES:
            return made[node.all_input_nodes[0]]
        if node.target in (LOG_SOFTMAX, LOG_SOFTMAX_BACKWARD):
            position = 1 if node.target is LOG_SOFTMAX else 2
            args: list[Any] = list(node.args)
            args[position] = 1
        else:
            args = list(node.args)
        given, named = fx.map_arg(
            (tuple(args), dict(node.kwargs)), lambda n: made[n] if n in made else self._hoist(n)
        )
        return self.call(node.target, *given, **named)

    def _exit(
        self,
        node: fx.Node,
        made: dict[fx.Node, fx.Node],
        a: int,
        b: int,
        parts: list[fx.Node],
    ) -> None:
        """One chunk's share: rows are put side by side, everything else is summed up."""
        kind = self.region.exits[node]
        args: Any = node.args
        known = parts.pop() if parts and kind is not Exit.ROWS else None
        if kind is Exit.BIAS:
            result = self.call(aten.sum.dim_IntList, made[args[0]], [0], *args[2:], **node.kwargs)
            if known is not None:
                result = self.call(aten.add.Tensor, known, result)
        else:
            if kind is Exit.ROWS:
                pair = (made[args[0]], self._hoist(args[1]))
            elif kind is Exit.WEIGHT:
                pair = (made[args[0]], self.tokens.chunk(self._hoist(args[1]), a, b))
            else:
                pair = (self.tokens.turned_chunk(self._hoist(args[0]), a, b), made[args[1]])
            if known is None:
                result = self.call(aten.mm.default, *pair)
            else:
                result = self.call(aten.addmm.default, known, *pair)
        parts.append(result)

    # -- writing ---------------------------------------------------------------------------------

    def _restored(self, node: fx.Node, made: fx.Node) -> fx.Node:
        """A result of the chunks in the shape of the whole."""
        shape = list(node.meta["val"].shape)
        if self.region.exits[node] is Exit.ROWS:
            return self.tokens.restore(made, shape)
        if list(made.meta["val"].shape) == shape:
            return made
        return self.call(aten.view.default, made, shape)

    def _hoist(self, node: fx.Node) -> fx.Node:
        """The copy of a node that the chunks read, made earlier where it stands after the loss."""
        if node in self.hoisted:
            return self.hoisted[node]
        if node in self.late:
            raise no_chunks(f"node {node.name!r} depends on the gradient of the loss")
        if self.where[node] <= self.where[self.region.loss]:
            return self.new[node]
        if node.op != "call_function":
            return self.new[node]
        given = fx.map_arg((node.args, dict(node.kwargs)), self._hoist)
        self.writer.like = node
        self.hoisted[node] = self.call(node.target, *given[0], **given[1])
        return self.hoisted[node]

    def _two(self, target: Any, *args: Any) -> list[fx.Node]:
        pair = self.call(target, *args)
        return [self.call(operator.getitem, pair, i) for i in range(2)]

    @contextmanager
    def _writing(self, node: fx.Node, *, before: bool) -> Iterator[None]:
        place = node if before else node.next
        with self.graph.inserting_before(place):
            yield

    def _items(self, node: fx.Node) -> list[fx.Node]:
        return [user for user in node.users if user.target is operator.getitem]

    def _replace_loss(self, loss: fx.Node) -> dict[fx.Node, fx.Node]:
        region = self.region
        replaced: dict[fx.Node, fx.Node] = {}
        for item in self._items(region.loss):
            if item.args[1] == 0:
                self.new[item].replace_all_uses_with(loss)
                replaced[self.new[item]] = loss
            elif any(user is not region.loss_backward for user in item.users):
                raise no_chunks("something else reads the number of its tokens")
        return replaced


def _dependent(graph: fx.Graph, roots: frozenset[fx.Node]) -> frozenset[fx.Node]:
    """The nodes that depend on one of these."""
    found = set(roots)
    for node in graph.nodes:
        if not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return frozenset(found)
