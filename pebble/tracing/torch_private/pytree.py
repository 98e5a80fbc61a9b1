"""Nested containers of tensors, flattened and put together again as torch itself does it."""

from __future__ import annotations

from typing import Any

# The public `torch.utils.pytree` has neither paths nor the registry of container types.
from torch.utils._pytree import (
    SUPPORTED_NODES,
    TreeSpec,
    is_namedtuple_instance,
    keystr,
    tree_flatten,
    tree_flatten_with_path,
    tree_leaves,
    tree_map,
    tree_map_only,
    tree_unflatten,
)

__all__ = [
    "TreeSpec",
    "call_leaves",
    "is_tensor_tree",
    "tree_flatten",
    "tree_flatten_with_path",
    "tree_leaves",
    "tree_map",
    "tree_map_only",
    "tree_unflatten",
]


def is_tensor_tree(thing: Any) -> bool:
    """Whether pytree looks inside of an object of this type (tuples, dicts, model outputs)."""
    # The registry of container types; transformers and others add theirs.
    return type(thing) in SUPPORTED_NODES or is_namedtuple_instance(thing)


def call_leaves(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[tuple[str, Any]], TreeSpec]:
    """The leaves of a call with their paths, such as ``args[0]``, and how to put them together.

    Examples
    --------
    >>> call_leaves((1,), {"mask": [2]})[0]
    [('args[0]', 1), ("kwargs['mask'][0]", 2)]
    """
    found, spec = tree_flatten_with_path((args, kwargs))
    return [(_name(path), leaf) for path, leaf in found], spec


def _name(path: Any) -> str:
    return ("args", "kwargs")[path[0].idx] + keystr(path[1:])
