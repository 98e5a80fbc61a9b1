"""Micro-batches of a step, weighted so that their gradients add up to the full batch's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from pebble.arguments import positive_integer
from pebble.errors import InvalidArgument
from pebble.tracing.torch_private import pytree


def micro_batches(inputs: Any, steps: int) -> Iterator[Any]:
    """Split inputs into equal micro-batches along their first dimension.

    Parameters
    ----------
    inputs : tensor, tuple or mapping
        Tensors with as many rows as the batch; anything else is handed on as it is.
    steps : int

    Raises
    ------
    InvalidArgument
        If the batch does not split into so many equal parts (a plan holds for one shape).

    Examples
    --------
    >>> import torch
    >>> [part["x"].tolist() for part in micro_batches({"x": torch.arange(4)}, 2)]
    [[0, 1], [2, 3]]
    """
    positive_integer("steps", steps)
    tensors = [t for t in pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor) and t.dim()]
    batch = tensors[0].shape[0] if tensors else 0
    if batch % steps or not batch:
        raise InvalidArgument(
            f"A batch of {batch} does not split into {steps} equal micro-batches; choose a number "
            "that divides it."
        )
    size = batch // steps

    def part(leaf: Any, k: int) -> Any:
        mine = isinstance(leaf, torch.Tensor) and leaf.dim() and leaf.shape[0] == batch
        return leaf[k * size : (k + 1) * size] if mine else leaf

    return (pytree.tree_map(lambda leaf, k=k: part(leaf, k), inputs) for k in range(steps))


def loss_weights(
    labels: torch.Tensor, steps: int, *, ignore_index: int = -100, shifted: bool = True
) -> list[float]:
    """What to multiply each micro-batch's mean loss by, so that the sum is the full batch's mean.

    A mean over tokens weighs a micro-batch with much padding as heavily as one without; dividing
    by the number of micro-batches is right only if all have as many tokens that count.

    Parameters
    ----------
    labels : Tensor, shape (batch, ...)
        Of the full batch.
    steps : int
    ignore_index : int
        The label of tokens that do not count.
    shifted : bool
        Whether the loss predicts the next token, so that the first label of a row is not used.

    Returns
    -------
    list of float
        One a micro-batch; they sum to 1.

    Examples
    --------
    >>> import torch
    >>> labels = torch.tensor([[5, 6, 7, 8], [5, 6, -100, -100]])
    >>> loss_weights(labels, 2)
    [0.75, 0.25]
    """
    if not isinstance(labels, torch.Tensor) or labels.dim() < 1 + shifted:
        raise InvalidArgument(
            f"labels is a {type(labels).__name__}; pass the tensor of the full batch's labels, a "
            "row a sample."
        )
    used = labels[:, 1:] if shifted else labels
    counts = [int((part != ignore_index).sum()) for part in micro_batches(used, steps)]
    total = sum(counts)
    if not total:
        raise InvalidArgument("No label of this batch counts: all are ignored.")
    return [count / total for count in counts]


def weighted(inputs: Mapping[str, Any], steps: int) -> Iterator[tuple[Any, float]]:
    """Micro-batches of a language model's inputs, each with the weight of its mean loss."""
    return zip(micro_batches(inputs, steps), loss_weights(inputs["labels"], steps), strict=True)
