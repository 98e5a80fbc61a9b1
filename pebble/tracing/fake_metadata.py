"""Corrections where torch's fake kernels disagree with its real ones about what an op makes."""

from __future__ import annotations

import operator

import torch
from torch import fx

aten = torch.ops.aten


def correct_metadata(joint: fx.GraphModule) -> None:
    """Give every node the dtype that its real kernel makes, in place.

    Known: the mean and rstd of a layer norm on the CPU. With weights wider than the input (under
    autocast) the kernel makes, and the backward wants, the weights' dtype; fake tensors say the
    input's.
    """
    for node in joint.graph.nodes:
        if node.target is aten.native_layer_norm.default and node.meta["val"][1].is_cpu:
            _correct_layer_norm(node)


def _correct_layer_norm(node: fx.Node) -> None:
    weight, made = node.args[2], list(node.meta["val"])
    if not isinstance(weight, fx.Node) or weight.meta["val"].dtype is made[1].dtype:
        return
    for i in (1, 2):
        with made[i].fake_mode:
            made[i] = torch.empty_strided(
                made[i].shape, made[i].stride(), dtype=weight.meta["val"].dtype, device="cpu"
            )
    node.meta["val"] = tuple(made)
    for item in node.users:
        if item.target is operator.getitem:
            item.meta["val"] = made[item.args[1]]  # type: ignore[index]
