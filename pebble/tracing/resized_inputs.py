"""Example inputs of another batch size or length."""

from __future__ import annotations

from typing import Any

import torch

from pebble.errors import InvalidArgument
from pebble.tracing.inputs import Inputs
from pebble.tracing.torch_private import pytree
from pebble.tracing.torch_private.fake_tensors import fake_mode_of
from pebble.tracing.torch_private.pytree import call_leaves


def example_batch(inputs: Inputs) -> int:
    """The batch size of example inputs: the first dimension of the first tensor that has one.

    Raises
    ------
    InvalidArgument
        If there is none.
    """
    given = next((t.shape[0] for t in inputs.tensors() if t.dim()), None)
    if not given:
        raise InvalidArgument(
            "The example inputs have no first dimension to change; pass a function of the batch "
            "size that makes inputs."
        )
    return given


def example_length(inputs: Inputs) -> int:
    """The length of example inputs: the second dimension of the first tensor that has one.

    Raises
    ------
    InvalidArgument
        If there is none.
    """
    given = next((t.shape[1] for t in inputs.tensors() if t.dim() > 1), None)
    if not given:
        raise InvalidArgument(
            "The example inputs have no second dimension for a length; pass a function of batch "
            "size and length that makes inputs, or no lengths."
        )
    return given


def resized(inputs: Inputs, batch: int, length: int | None = None) -> Inputs:
    """Example inputs repeated or cut to a batch size, and to a length where one is given.

    Tensors whose first dimension is the example's batch change along it; of these, and of others,
    every later dimension that is the example's length changes with the length. What is one tensor
    stays one.

    Raises
    ------
    InvalidArgument
        If the example has no such dimension.

    Examples
    --------
    >>> found = resized(Inputs((torch.ones(2, 4), torch.ones(2))), 3, 5)
    >>> [tuple(t.shape) for t in found.tensors()]
    [(3, 5), (3,)]
    """
    rows = example_batch(inputs)
    columns = None if length is None else example_length(inputs)
    made: dict[int, torch.Tensor] = {}

    def resize(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or not leaf.dim():
            return leaf
        if id(leaf) not in made:
            made[id(leaf)] = _resized(leaf, rows, batch, columns, length)
        return made[id(leaf)]

    args, kwargs = pytree.tree_map(resize, (inputs.args, dict(inputs.kwargs)))
    return Inputs(args, kwargs)


def _resized(
    tensor: torch.Tensor, rows: int, batch: int, columns: int | None, length: int | None
) -> torch.Tensor:
    found, shape = tensor.detach(), list(tensor.shape)
    fake = fake_mode_of(tensor) is not None
    for axis, size in enumerate(tensor.shape):
        given, wanted = (rows, batch) if axis == 0 else (columns, length)
        if given is None or wanted is None or size != given:
            continue
        shape[axis] = wanted
        if not fake:
            found = found.index_select(axis, torch.arange(wanted, device=tensor.device) % given)
    if shape == list(tensor.shape):
        return tensor
    found = found.new_empty(shape) if fake else found
    return found.requires_grad_(tensor.requires_grad)


def changing_dimensions(one: Inputs, other: Inputs) -> dict[str, tuple[int, ...]] | None:
    """By the path of an input, the dimensions in which two calls differ.

    None if they differ in something else: other arguments, dtypes, or numbers of dimensions.

    Examples
    --------
    >>> a, b = Inputs((torch.ones(2, 3), 1)), Inputs((torch.ones(4, 3), 1))
    >>> changing_dimensions(a, b)
    {'args[0]': (0,)}
    """
    first, form = call_leaves(one.args, dict(one.kwargs))
    second, other_form = call_leaves(other.args, dict(other.kwargs))
    if form != other_form:
        return None
    found: dict[str, tuple[int, ...]] = {}
    for (path, a), (_, b) in zip(first, second):
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            if (a.dim(), a.dtype, a.device) != (b.dim(), b.dtype, b.device):
                return None
            found[path] = tuple(d for d in range(a.dim()) if a.shape[d] != b.shape[d])
        elif type(a) is not type(b) or a != b:
            return None
    return found
