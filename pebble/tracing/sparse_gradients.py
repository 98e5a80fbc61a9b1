"""Sparse gradients in a joint graph: the rows that a step hands over, and the rows' indices."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import fx, nn

from pebble.errors import CaptureError
from pebble.tracing.call_writer import CallWriter
from pebble.tracing.signature import results_of
from pebble.tracing.torch_private.joint_export import EndKind, JointTrace
from pebble.tracing.torch_private.operators import TO_COPY
from pebble.tracing.torch_private.sparse_rows import (
    ADD_ROWS,
    BAG_BACKWARD,
    BAG_ROWS,
    BAG_VALUES,
    EMBEDDING_BACKWARD,
    EMBEDDING_ROWS,
    SUM_OF_ROWS,
)

aten = torch.ops.aten
_STAND_INS = (EMBEDDING_BACKWARD, BAG_BACKWARD)


@dataclass(frozen=True)
class SparseGradient:
    """What makes a sparse gradient of the rows that a step hands over as a gradient.

    Attributes
    ----------
    indices : fx.Node
        Of the rows in the table: int64, shape (1, n).
    rows : int
        Of the table.
    """

    indices: fx.Node
    rows: int


def write_rows(joint: JointTrace, model: nn.Module) -> dict[int, SparseGradient]:
    """Let a joint graph hand over the rows of its sparse gradients, in place.

    A table that is used once hands over a view of the gradient that comes in; padding is left out
    by an op of its own, and so are several gradients of a table added up, as autograd adds them.

    Parameters
    ----------
    joint : JointTrace
        Traced with `sparse_gradients_as_rows`.
    model : nn.Module
        To name what is refused.

    Returns
    -------
    dict
        Position of an output of the graph that is such a gradient -> the rest of it. The indices
        are outputs too, behind all others.

    Raises
    ------
    CaptureError
        If the step computes with a sparse gradient anything but such a sum.
    """
    graph = joint.graph_module.graph
    if not any(node.target in _STAND_INS for node in graph.nodes):
        return {}
    writer = _Writer(graph)
    for node in list(graph.nodes):
        writer.visit(node)
    results = results_of(graph)
    found: dict[int, SparseGradient] = {}
    for k, end in enumerate(joint.outputs):
        rows = writer.found.get(results[k])
        if rows is not None and end is not None and end[0] is EndKind.GRADIENT:
            found[k] = SparseGradient(rows.indices, results[k].meta["val"].shape[0])
            results[k] = rows.values
    graph.output_node().args = ([*results, *(sparse.indices for sparse in found.values())],)
    graph.eliminate_dead_code()
    left = [node for node in graph.nodes if node.target in _STAND_INS]
    if left:
        raise _refused(left[0], model)
    joint.graph_module.recompile()
    return found


def _refused(node: fx.Node, model: nn.Module) -> CaptureError:
    names = [repr(n) for n, m in model.named_modules() if getattr(m, "sparse", None) is True]
    what = f"for {' and '.join(names)}" if names else f"at node {node.name!r}"
    user = next(iter(node.users))
    return CaptureError(
        f"The step makes a sparse gradient {what} and computes on with it ({user.target}): the "
        "table that is looked up is no parameter itself, but made of one. Use sparse=False for "
        "this embedding, or look up the parameter."
    )


@dataclass(frozen=True)
class _Rows:
    indices: fx.Node
    values: fx.Node


@dataclass
class _Writer:
    graph: fx.Graph
    found: dict[fx.Node, _Rows] = field(default_factory=dict)

    def visit(self, node: fx.Node) -> None:
        if node.target in _STAND_INS:
            self.found[node] = self._of_embedding(node)
        elif node.target is aten.add.Tensor and not self.found.keys().isdisjoint(node.args):
            self._sum(node)

    def _writer(self, node: fx.Node) -> CallWriter:
        return CallWriter(self.graph, node.meta["val"].fake_mode, node)

    def _of_embedding(self, node: fx.Node) -> _Rows:
        grad, ids, padding = node.args[0], node.args[1], node.args[-1]
        assert isinstance(grad, fx.Node) and isinstance(ids, fx.Node)
        in_bags = node.target is BAG_BACKWARD
        writer = self._writer(node)
        with self.graph.inserting_before(node):
            if padding != -1:
                made = writer.call(BAG_ROWS if in_bags else EMBEDDING_ROWS, *node.args)
                return _Rows(*_items(writer, made))
            if ids.meta["val"].dtype is not torch.int64:
                ids = writer.call(TO_COPY, ids, dtype=torch.int64)
            indices = _reshaped(writer, ids, (1, ids.meta["val"].numel()))
            if in_bags:
                return _Rows(indices, writer.call(BAG_VALUES, *node.args))
            shape = (ids.meta["val"].numel(), grad.meta["val"].shape[-1])
            return _Rows(indices, _reshaped(writer, grad, shape))

    def _sum(self, node: fx.Node) -> None:
        """Autograd adds what it has to what is new: sparse tensors the other way round."""
        had, new = node.args
        assert isinstance(had, fx.Node) and isinstance(new, fx.Node)
        writer, rows = self._writer(node), node.meta["val"].shape[0]
        with self.graph.inserting_before(node):
            if had in self.found and new in self.found:
                first, last = self.found[new], self.found[had]
                given = (first.indices, first.values, last.indices, last.values)
                made = writer.call(SUM_OF_ROWS, *given, rows)
                self.found[node] = _Rows(*_items(writer, made))
                return
            dense, sparse = (had, self.found[new]) if new in self.found else (new, self.found[had])
            total = writer.call(ADD_ROWS, dense, sparse.indices, sparse.values)
        node.replace_all_uses_with(total)


def _items(writer: CallWriter, made: fx.Node) -> tuple[fx.Node, fx.Node]:
    first, second = (writer.call(operator.getitem, made, i) for i in range(2))
    return first, second


def _reshaped(writer: CallWriter, node: fx.Node, shape: tuple[int, int]) -> fx.Node:
    """A view where there is one, else a copy."""
    like: torch.Tensor = node.meta["val"]
    try:
        like.view(shape)
    except RuntimeError:
        node = writer.call(aten.clone.default, node, memory_format=torch.contiguous_format)
    return writer.call(aten.view.default, node, list(shape))


def indices_of(sparse: Mapping[fx.Node, SparseGradient]) -> tuple[fx.Node, ...]:
    """The nodes that hand over indices."""
    return tuple(gradient.indices for gradient in sparse.values())
