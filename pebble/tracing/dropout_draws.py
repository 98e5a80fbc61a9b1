"""Dropout as two ops: the draw, which is kept, and the rest, which may be computed again."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
from torch import fx

from pebble.tracing.call_writer import CallWriter

aten = torch.ops.aten
_BLANKS = (
    aten.empty_like.default, aten.empty.memory_format, aten.empty_strided.default,
    aten.empty_permuted.default, aten.new_empty.default,
)  # fmt: skip


def split_dropout(joint: fx.GraphModule) -> None:
    """Replace every training dropout by a draw of its mask and a deterministic scaling, in place.

    A random op must never draw again, so its results cannot be recomputed: as one op, dropout
    would hold its output (4 bytes an element) where the mask alone (1 byte) is enough to compute
    it anew. On the CPU the mask is drawn as eager draws it, in the order in which the input lies in
    memory, and the scaling is the product that eager computes there, so results are bit for bit the
    same: in half precision eager rounds the scale first.
    """
    for node in list(joint.graph.nodes):
        if node.target is aten.native_dropout.default and _trains(node):
            _split(joint.graph, node)
        elif node.target is aten.bernoulli.p and node.meta["val"].is_cpu:
            _draw_in_memory_order(joint.graph, node)
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
        made = _draw(call, example, keep, in_memory_order=example.is_cpu)
        mask = made[-1]
        scaled = call(aten.native_dropout_backward.default, source, mask, scale)
    # The real kernel keeps the strides; what is traced from here on was traced on those.
    if scaled.meta["val"].stride() != before.stride() and not example.is_cpu:
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
    order = memory_order(like) if in_memory_order else dims
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


def memory_order(like: torch.Tensor) -> list[int]:
    """The dimensions of ``torch.empty_like(like)`` from the slowest to the fastest in memory.

    Examples
    --------
    >>> memory_order(torch.zeros(2, 3, 4).permute(2, 0, 1))
    [1, 2, 0]
    """
    strides = torch.empty_like(like).stride()
    return sorted(range(like.dim()), key=lambda d: (-strides[d], d))


def _draw_in_memory_order(graph: fx.Graph, node: fx.Node) -> None:
    """Let a draw into a blank tensor fill it as ``blank.bernoulli_(p)`` does.

    The functional op that it is traced as fills its result row by row, whatever the blank's
    strides.
    """
    blank = node.args[0]
    assert isinstance(blank, fx.Node)
    if blank.target not in _BLANKS or blank.meta["val"].is_contiguous():
        return
    order = memory_order(blank.meta["val"])
    call = CallWriter(graph, node.meta["val"].fake_mode, node).call
    with graph.inserting_before(node):
        flat = call(aten.permute.default, blank, order)
        drawn = call(aten.bernoulli.p, flat, *node.args[1:], **node.kwargs)
        back = call(aten.permute.default, drawn, [order.index(d) for d in range(len(order))])
        rows = call(aten.clone.default, back, memory_format=torch.contiguous_format)
    node.replace_all_uses_with(rows)
    graph.erase_node(node)


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
