"""The head and the loss of a captured step, computed a few tokens at a time (operator fission).

In a language model the logits set the floor of any schedule: one op needs several matrices of
tokens by vocabulary at once, and recomputation cannot split an op. Here the projection, the loss
and their backward are split over the tokens. Each chunk computes its logits, its part of the loss
and at once the gradients of its hidden states and of the weight, for a root gradient of one; only
one chunk of logits is ever alive. The backward multiplies these gradients by the true root
gradient over the number of tokens that count. Sums over tokens are taken in another order, so the
result is that of the whole loss up to rounding, not bit for bit.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from pebble.errors import InvalidArgument
from pebble.tracing.fake_metadata import correct_metas
from pebble.tracing.graph_builder import Ends, results_of, wire
from pebble.tracing.loss_region import MEAN, SAME_ROWS, SUM, Exit, Region, find_region, no_chunks
from pebble.tracing.output_templates import without
from pebble.tracing.signature import OutputKind, Slot
from pebble.tracing.torch_private.operators import LOG_SOFTMAX, LOG_SOFTMAX_BACKWARD

if TYPE_CHECKING:
    from pebble.tracing.step_capture import Captured

aten = torch.ops.aten
_SHARE, _GOOD_ROWS = 8, 256
_SLICES = frozenset((aten.slice.Tensor, aten.slice_backward.default))


def chunk_loss(captured: Captured, chunks: int) -> Captured:
    """The same step with its largest cross entropy split over the tokens.

    Parameters
    ----------
    captured : Captured
    chunks : int
        Into how many parts of (nearly) equal numbers of tokens.

    Returns
    -------
    Captured
        Its `whole` is `captured`. Outputs as large as the logits are None.

    Raises
    ------
    InvalidArgument
        If the number makes no sense, or the step has no such loss; says what stands in the way.

    Notes
    -----
    The idea of computing gradients along with each chunk's loss is that of fused linear cross
    entropy kernels (Hsu et al., Liger Kernel, 2024; Wijmans et al., Cut Your Losses, 2024); here
    it is a rewrite of the traced graph, so that plans count its bytes.
    """
    whole = captured.whole or captured
    if isinstance(chunks, bool) or not isinstance(chunks, int) or chunks < 2:
        raise InvalidArgument(
            f"chunked_loss is {chunks!r}; pass 'auto', False, or a number of chunks from 2 on."
        )
    region = find_region(whole)
    if chunks > region.rows:
        raise InvalidArgument(
            f"chunked_loss is {chunks}, but the loss has {region.rows} rows (tokens) only."
        )
    graph = fx.Graph()
    new: dict[fx.Node, fx.Node] = {}
    results = graph.graph_copy(whole.joint.graph, new)
    graph.output(results)
    tangents = frozenset(slot.node for slot in whole.tangents)
    replaced = _Fission(graph, region, new, chunks, tangents).run()
    outputs = [o for o in whole.outputs if o.node not in region.forms]
    old: list[Any] = results_of(whole.joint.graph)
    kept = [n for n, was in zip(results_of(graph), old) if was is None or was not in region.forms]
    graph.output_node().args = (kept,)
    graph.eliminate_dead_code()
    graph.lint()
    joint = fx.GraphModule(whole.joint, graph, "PebbleChunked")
    correct_metas(joint)
    return _captured(whole, joint, lambda n: replaced.get(new[n], new[n]), outputs, chunks)


def _captured(
    whole: Captured,
    joint: fx.GraphModule,
    moved: Callable[[fx.Node], fx.Node],
    outputs: list[Any],
    chunks: int,
) -> Captured:
    """The capture of the rewritten joint graph."""
    slots = [replace(slot, node=moved(slot.node)) for slot in whole.slots]
    tangents = [Slot(t.kind, t.name, moved(t.node)) for t in whole.tangents]
    gradients = {
        moved(node): None if gradient is None else moved(gradient)
        for node, gradient in whole.gradients.items()
    }
    held = (OutputKind.DIFFERENTIABLE, OutputKind.PLAIN)
    dropped = [
        i for i, o in enumerate(o for o in whole.outputs if o.kind in held) if o not in outputs
    ]
    outputs = [replace(output, node=moved(output.node)) for output in outputs]
    updated = {o.name for o in outputs if o.kind not in held}
    ends = Ends(
        inputs=tuple(slot.node for slot in slots),
        tangents=tuple(slot.node for slot in tangents),
        handed=tuple(output.node for output in outputs),
        kept=frozenset(output.node for output in outputs if output.kind in held),
        gradients=tuple(g for g in gradients.values() if g is not None),
        overwritten=frozenset(s.node for s in slots if s.name in updated),
    )
    outside = whole.loss is not None or any(slot.node.meta["val"].dim() for slot in tangents)
    parts = wire(joint, ends, name=whole.graph.name, loss_outside=outside)
    return replace(
        whole,
        joint=joint,
        graph=parts.graph,
        op_nodes=parts.op_nodes,
        value_of=parts.value_of,
        views=parts.views,
        value_source=parts.value_source,
        slots=tuple(slots),
        outputs=tuple(outputs),
        gradients=gradients,
        tangents=tuple(tangents),
        template=without(whole.template, dropped),
        chunks=chunks,
        whole=whole,
    )


def suggest_chunks(captured: Captured, room: int) -> int:
    """A number of chunks for which the loss takes a small part of these bytes.

    The fewest chunks (a power of two) whose logits fill an eighth of the room, but no chunk so
    small that the projection runs badly, unless it would not fit otherwise.

    Parameters
    ----------
    captured : Captured
    room : int
        Bytes for everything that is not resident.

    Raises
    ------
    InvalidArgument
        If the loss cannot be split.
    """
    region = find_region(captured.whole or captured)
    wide = {captured.value_of[n]: n.meta["val"].untyped_storage().nbytes()
            for n in region.forms if n in captured.value_of}  # fmt: skip
    largest = max(
        sum(wide.get(v, 0) for v in (*op.inputs, *op.outputs)) for op in captured.graph.ops
    )
    chunks = 2
    while 2 * chunks <= region.rows and (
        largest > room * chunks // _SHARE
        and (region.rows >= 2 * chunks * _GOOD_ROWS or largest > room * chunks // 2)
    ):
        chunks *= 2
    return chunks


class _Fission:
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
        self.picked: dict[fx.Node, fx.Node] = {}
        self.like = region.loss
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
                scale = self._call(aten.div.Tensor, root, total)
        for node, made in exits.items():
            old = self.new[node]
            with self._writing(old, before=True):
                result = self._call(aten.mul.Tensor, self._restored(node, made), scale)
            old.replace_all_uses_with(result)
            replaced[old] = result
        return replaced

    # -- chunks ----------------------------------------------------------------------------------

    def _chunks(self) -> tuple[fx.Node, fx.Node, dict[fx.Node, fx.Node]]:
        """Loss, sum of the weights of its rows, and unscaled results of the exits."""
        region = self.region
        self.one = self._call(
            aten.full.default, [], 1.0, dtype=region.loss.meta["val"][0].dtype,
            device=region.softmax.meta["val"].device, pin_memory=False,
        )  # fmt: skip
        losses: fx.Node | None = None
        total: fx.Node | None = None
        parts: dict[fx.Node, list[fx.Node]] = {node: [] for node in region.exits}
        for a, b in zip(self.bounds, self.bounds[1:]):
            loss, weight = self._chunk(a, b, parts)
            losses = loss if losses is None else self._call(aten.add.Tensor, losses, loss)
            total = weight if total is None else self._call(aten.add.Tensor, total, weight)
        assert losses is not None and total is not None
        if region.loss.args[3] == MEAN:
            losses = self._call(aten.div.Tensor, losses, total)
        made = {
            node: self._call(aten.cat.default, found) if len(found) > 1 else found[0]
            for node, found in parts.items()
        }
        return losses, total, made

    def _chunk(
        self, a: int, b: int, parts: dict[fx.Node, list[fx.Node]]
    ) -> tuple[fx.Node, fx.Node]:
        region, made = self.region, dict[fx.Node, fx.Node]()
        loss: Any = region.loss
        target = self._call(aten.slice.Tensor, self._hoist(loss.args[1]), 0, a, b)
        weight = None if loss.args[2] is None else self._hoist(loss.args[2])
        results: list[fx.Node] = []
        for node in sorted((*region.forms, *region.exits), key=self.where.__getitem__):
            self.like = node
            if node is region.entry:
                made[node] = self._entry(a, b)
            elif node is region.loss_backward:
                made[node] = self._call(
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
        part = self._rows(rows, a, b)
        return self._call(entry.target, *given, part, self._hoist(weight), **entry.kwargs)

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
        return self._call(node.target, *given, **named)

    def _exit(
        self,
        node: fx.Node,
        made: dict[fx.Node, fx.Node],
        a: int,
        b: int,
        parts: list[fx.Node],
    ) -> None:
        """One chunk's share: rows are put side by side, everything else is summed up."""
        kind, args = self.region.exits[node], node.args
        known = parts.pop() if parts and kind is not Exit.ROWS else None
        if kind is Exit.BIAS:
            result = self._call(aten.sum.dim_IntList, made[args[0]], [0], *args[2:], **node.kwargs)  # type: ignore[index]
            if known is not None:
                result = self._call(aten.add.Tensor, known, result)
        else:
            if kind is Exit.ROWS:
                pair = (made[args[0]], self._hoist(args[1]))  # type: ignore[index, arg-type]
            elif kind is Exit.WEIGHT:
                pair = (made[args[0]], self._rows(args[1], a, b))  # type: ignore[index]
            else:
                pair = (self._turned_rows(args[0], a, b), made[args[1]])  # type: ignore[index]
            if known is None:
                result = self._call(aten.mm.default, *pair)
            else:
                result = self._call(aten.addmm.default, known, *pair)
        parts.append(result)

    # -- rows ------------------------------------------------------------------------------------

    def _rows(self, source: Any, a: int, b: int) -> fx.Node:
        """Rows a to b, as the loss counts them, of a matrix with a row for each token."""
        return self._call(aten.slice.Tensor, self._picked(self._hoist(source)), 0, a, b)

    def _turned_rows(self, source: Any, a: int, b: int) -> fx.Node:
        straight = self._call(aten.t.default, self._hoist(source))
        part = self._call(aten.slice.Tensor, self._picked(straight), 0, a, b)
        return self._call(aten.t.default, part)

    def _picked(self, rows: fx.Node) -> fx.Node:
        """Those rows that the loss looks at."""
        if not self.region.cuts:
            return rows
        if rows in self.picked:
            return self.picked[rows]
        width, part = int(rows.meta["val"].shape[1]), rows
        for cut in self.region.cuts:
            part = self._call(aten.reshape.default, part, [*cut.shape, width])
            part = self._call(aten.slice.Tensor, part, cut.dim, cut.start, cut.end, cut.step)
        part = self._call(aten.clone.default, part, memory_format=torch.contiguous_format)
        self.picked[rows] = self._call(aten.view.default, part, [-1, width])
        return self.picked[rows]

    def _restored(self, node: fx.Node, made: fx.Node) -> fx.Node:
        """The gradient of the hidden states with zeros where the loss does not look."""
        like = node.meta["val"]
        if self.region.exits[node] is Exit.ROWS:
            shapes = [cut.shape for cut in self.region.cuts]
            width = int(like.shape[1])
            for cut in reversed(self.region.cuts):
                ranges = range(cut.start, cut.end, cut.step)
                kept = [len(ranges) if d == cut.dim else n for d, n in enumerate(cut.shape)]
                made = self._call(aten.view.default, made, [*kept, width])
                made = self._call(
                    aten.slice_backward.default, made, [*cut.shape, width],
                    cut.dim, cut.start, cut.end, cut.step,
                )  # fmt: skip
            if shapes:
                made = self._call(aten.view.default, made, list(like.shape))
        elif tuple(made.meta["val"].shape) != tuple(like.shape):
            made = self._call(aten.view.default, made, list(like.shape))
        return made

    # -- writing ---------------------------------------------------------------------------------

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
        self.like = node
        self.hoisted[node] = self._call(node.target, *given[0], **given[1])
        return self.hoisted[node]

    def _two(self, target: Any, *args: Any) -> list[fx.Node]:
        pair = self._call(target, *args)
        return [self._call(operator.getitem, pair, i) for i in range(2)]

    def _call(self, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """A node in the place that is written to, with what fake tensors say that it makes."""
        made = self.graph.call_function(target, args, kwargs)
        made.meta = {k: v for k, v in self.like.meta.items() if k not in ("val", "tensor_meta")}
        given = fx.map_arg((args, kwargs), lambda n: n.meta["val"])
        with self.region.softmax.meta["val"].fake_mode:
            made.meta["val"] = target(*given[0], **given[1])
        return made

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
