"""Corrections where torch's fake kernels disagree with its real ones about what an op makes."""

from __future__ import annotations

import operator

import torch
from torch import fx

from pebble.tracing.tangent_storages import move_views
from pebble.tracing.torch_private.operators import op_name
from pebble.tracing.torch_private.storages import storage_id

# op -> positions of its weights and statistics, and those of the mean and rstd that it makes
_STATISTICS: dict[str, tuple[tuple[int, ...], tuple[int, int]]] = {
    "aten::native_layer_norm": ((2, 3), (1, 2)),
    "aten::native_group_norm": ((1, 2), (1, 2)),
    "aten::native_batch_norm": ((1, 2, 3, 4), (1, 2)),
    "aten::_native_batch_norm_legit": ((1, 2, 3, 4), (1, 2)),
    "aten::_native_batch_norm_legit_functional": ((1, 2, 3, 4), (1, 2)),
    "aten::_batch_norm_with_update_functional": ((1, 2, 3, 4), (1, 2)),
}


def correct_metadata(joint: fx.GraphModule) -> None:
    """Give every node the dtype that its real kernel makes, in place.

    Known: the mean and rstd of a normalisation on the CPU. With weights or running statistics
    wider than the input (under autocast) the kernel makes, and the backward wants, their dtype;
    fake tensors say the input's.
    """
    moved: dict[fx.Node, torch.Tensor] = {}  # with the tensors that they had, alive
    for node in joint.graph.nodes:
        known = _STATISTICS.get(op_name(node.target))
        if known is not None and node.meta["val"][1].is_cpu:
            moved |= _correct_statistics(node, *known)
    if moved:
        storages = frozenset(storage_id(tensor) for tensor in moved.values())
        move_views(joint.graph, set(moved), storages)


def _correct_statistics(
    node: fx.Node, weights: tuple[int, ...], statistics: tuple[int, int]
) -> dict[fx.Node, torch.Tensor]:
    """The items that it corrects, with the tensors that they had."""
    given = [node.args[i] for i in weights if i < len(node.args)]
    dtypes = [arg.meta["val"].dtype for arg in given if isinstance(arg, fx.Node)]
    made = list(node.meta["val"])
    reduced = made[0].dtype in (torch.bfloat16, torch.float16)
    if not dtypes or not reduced or made[1].dtype is dtypes[0]:
        return {}
    for i in statistics:
        with made[i].fake_mode:
            made[i] = torch.empty_strided(
                made[i].shape, made[i].stride(), dtype=dtypes[0], device="cpu"
            )
    node.meta["val"] = tuple(made)
    moved: dict[fx.Node, torch.Tensor] = {}
    for item in node.users:
        if item.target is operator.getitem and item.args[1] in statistics:
            moved[item] = item.meta["val"]
            item.meta["val"] = made[item.args[1]]  # type: ignore[index]
    return moved
