"""Dropout as two ops: the draw, which is kept, and the rest, which may be computed again."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
from torch import fx

from pebble.tracing.call_writer import CallWriter

aten = torch.ops.aten


def split_dropout(joint: fx.GraphModule) -> None:
    """Replace every training dropout by a draw of its mask and a deterministic scaling, in place.

    A random op must never draw again, so its results cannot be recomputed: as one op, dropout
    would hold its output (4 bytes an element) where the mask alone (1 byte) is enough to compute
    it anew. The mask comes from the same generator calls as in torch's own kernel for the CPU,
    and the scaling is the product that eager computes there, so results are bit for bit the same:
    in half precision eager rounds the scale first.
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
    example, before = source.meta["val"], node.meta["val"][0]
    keep = 1.0 - probability
    rounds = _rounds(example)
    scale = eager_scale(keep, example.dtype) if rounds else 1.0 / keep

    call = CallWriter(graph, example.fake_mode, node).call
    with graph.inserting_before(node):
        made = _draw(call, before, keep, in_memory_order=rounds)
        mask = made[-1]
        scaled = call(aten.native_dropout_backward.default, source, mask, scale)
    # The real kernel keeps the strides; what is traced from here on was traced on those.
    if scaled.meta["val"].stride() != before.stride() and not rounds:
        for extra in (scaled, *reversed(made)):
            graph.erase_node(extra)
        return
    scaled.meta["val"] = before  # views of it share this storage
    for item in list(node.users):
        assert item.target is operator.getitem
        item.replace_all_uses_with((scaled, mask)[item.args[1]])  # type: ignore[index]
        graph.erase_node(item)
    graph.erase_node(node)
    for user in list(mask.users):
        if user.target is aten.native_dropout_backward.default and user.args[1] is mask:
            user.args = (*user.args[:2], scale)


def _draw(
    call: Callable[..., fx.Node], like: torch.Tensor, keep: float, *, in_memory_order: bool
) -> list[fx.Node]:
    """The nodes that draw a mask for a tensor, the last of them the mask."""
    dims = list(range(like.dim()))
    strides = like.stride()
    order = sorted(dims, key=lambda d: -strides[d]) if in_memory_order else dims
    blank = call(
        aten.empty.memory_format,
        [like.shape[d] for d in order],
        dtype=torch.bool,
        device=like.device,
        pin_memory=False,
    )
    made = [blank, call(aten.bernoulli.p, blank, keep)]
    if order != dims:
        made.append(call(aten.permute.default, made[-1], [order.index(d) for d in dims]))
    return made


def _rounds(tensor: torch.Tensor) -> bool:
    """Whether eager multiplies by a rounded scale: a fused kernel of a card does not."""
    return tensor.is_cpu and tensor.dtype in (torch.bfloat16, torch.float16)


def eager_scale(keep: float, dtype: torch.dtype) -> float:
    """What eager multiplies by on the CPU: there it divides a tensor of ones by `keep`.

    Examples
    --------
    >>> import torch
    >>> round(1 / 0.7, 6), eager_scale(0.7, torch.bfloat16)
    (1.428571, 1.4296875)
    """
    return float(torch.ones((), dtype=dtype).div_(keep))
