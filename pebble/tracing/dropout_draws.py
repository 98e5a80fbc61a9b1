"""Dropout as two ops: the draw, which is kept, and the rest, which may be computed again."""

from __future__ import annotations

import operator

import torch
from torch import fx

from pebble.tracing.call_writer import CallWriter

aten = torch.ops.aten


def split_dropout(joint: fx.GraphModule) -> None:
    """Replace every training dropout by a draw of its mask and a deterministic scaling, in place.

    A random op must never draw again, so its results cannot be recomputed: as one op, dropout
    would hold its output (4 bytes an element) where the mask alone (1 byte) is enough to compute
    it anew. The mask comes from the same generator calls as in torch's own kernel for the CPU,
    and the scaling is the product that kernel computes, so results are bit for bit the same there.
    """
    for node in list(joint.graph.nodes):
        if node.target is aten.native_dropout.default and _trains(node):
            _split(joint.graph, node)
    joint.recompile()


def _trains(node: fx.Node) -> bool:
    return len(node.args) > 2 and node.args[2] is not False and node.args[1] not in (0.0, 1.0)


def _split(graph: fx.Graph, node: fx.Node) -> None:
    source, probability = node.args[0], float(node.args[1])  # type: ignore[arg-type]
    assert isinstance(source, fx.Node)
    example = source.meta["val"]
    keep = 1.0 - probability

    call = CallWriter(graph, example.fake_mode, node).call
    with graph.inserting_before(node):
        blank = call(
            aten.empty.memory_format,
            list(example.shape),
            dtype=torch.bool,
            device=example.device,
            pin_memory=False,
        )
        mask = call(aten.bernoulli.p, blank, keep)
        scaled = call(aten.native_dropout_backward.default, source, mask, 1.0 / keep)
    before = node.meta["val"][0]
    if scaled.meta["val"].stride() != before.stride():  # its readers were traced on other strides
        for made in (scaled, mask, blank):
            graph.erase_node(made)
        return
    scaled.meta["val"] = before  # views of it share this storage
    for item in list(node.users):
        assert item.target is operator.getitem
        item.replace_all_uses_with((scaled, mask)[item.args[1]])  # type: ignore[index]
        graph.erase_node(item)
    graph.erase_node(node)
