"""The form of a call's inputs: all that a plan may depend on, as a key of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from pebble.tracing.torch_private.pytree import TreeSpec, call_leaves, tree_flatten


@dataclass(frozen=True)
class InputForm:
    """Nesting, tensors without their contents, and what is no tensor.

    Attributes
    ----------
    nesting : TreeSpec
    tensors : tuple
        Shape, strides, dtype, device and requires_grad of each.
    constants : tuple
        Type and value of each leaf that is no tensor; the type alone where it has no hash.

    Examples
    --------
    >>> form = InputForm.of((torch.ones(2, 3), 1), {})
    >>> form == InputForm.of((torch.zeros(2, 3), 1), {}), form == InputForm.of((form, 1), {})
    (True, False)
    """

    nesting: TreeSpec
    tensors: tuple[Any, ...]
    constants: tuple[Any, ...]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> InputForm:
        """The form of a call."""
        leaves, nesting = tree_flatten((args, dict(kwargs)))
        tensors, constants = [], []
        for leaf in leaves:
            if isinstance(leaf, torch.Tensor):
                tensors.append(_form_of(leaf))
            else:
                constants.append((type(leaf), leaf if _has_hash(leaf) else None))
        return cls(nesting, tuple(tensors), tuple(constants))

    def has_tensors_of(self, other: InputForm | None) -> bool:
        """Whether both have the same tensors, whatever else they have."""
        return other is not None and other.tensors == self.tensors


def describe(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """The inputs of a call in a few words.

    Examples
    --------
    >>> describe((torch.ones(2, 3), True), {"labels": torch.ones(2)})
    'args[0] [2, 3], args[1] True, labels [2]'
    """
    found, _ = call_leaves(args, dict(kwargs))
    told = []
    for path, leaf in found:
        name = path.removeprefix("kwargs['").replace("']", "", 1) if path[0] == "k" else path
        if isinstance(leaf, torch.Tensor):
            told.append(f"{name} {list(leaf.shape)}")
        elif isinstance(leaf, (bool, int, float, str)):
            told.append(f"{name} {leaf!r}")
    return ", ".join(told) or "no inputs"


def _form_of(tensor: torch.Tensor) -> tuple[Any, ...]:
    strided = tensor.layout is torch.strided
    return (
        tensor.shape,
        tensor.stride() if strided else tensor.layout,
        tensor.dtype,
        tensor.device,
        tensor.requires_grad,
    )


def _has_hash(leaf: Any) -> bool:
    try:
        hash(leaf)
    except TypeError:
        return False
    return True
