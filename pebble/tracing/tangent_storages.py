"""Gradients that the caller hands in have memory of their own, whatever the outputs share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from pebble.tracing.torch_private.pytree import tree_leaves
from pebble.tracing.torch_private.storages import storage_id


def separate_tangents(graph: fx.Graph, tangents: Sequence[fx.Node]) -> None:
    """Give every tangent of a joint graph a storage of its own, and views of it theirs, in place.

    A tangent is traced as a stand-in of its output. Outputs that are pieces of one tensor (chunk,
    split, unbind) would have tangents that are pieces of one, too; at run time each is a tensor
    alone, of the output's strides.
    """
    traced = [node.meta["val"] for node in tangents]  # alive, so that no identity is used again
    users = Counter(storage_id(tensor) for tensor in traced)
    moved: set[fx.Node] = set()
    for node, tensor in zip(tangents, traced):
        with tensor.fake_mode:
            own = torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
            )
        same_size = own.untyped_storage().nbytes() == tensor.untyped_storage().nbytes()
        if users[storage_id(tensor)] > 1 or not same_size:
            node.meta["val"] = own
            moved.add(node)
    if moved:
        move_views(graph, moved, frozenset(users))


def move_views(graph: fx.Graph, moved: set[fx.Node], storages: frozenset[int]) -> None:
    """Make views anew, in place, of nodes whose tensors were replaced.

    Parameters
    ----------
    graph : fx.Graph
    moved : set of fx.Node
        Those nodes; grows by the views.
    storages : frozenset of int
        Identities of the storages that they had, whose tensors are alive.
    """
    for node in graph.nodes:
        if node.op != "call_function" or moved.isdisjoint(node.all_input_nodes):
            continue
        if _reaches(node.meta.get("val"), storages):
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda arg: arg.meta["val"])
            node.meta["val"] = node.target(*args, **kwargs)
            moved.add(node)


def _reaches(made: Any, storages: frozenset[int]) -> bool:
    tensors = (leaf for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor))
    return any(storage_id(tensor) in storages for tensor in tensors)
