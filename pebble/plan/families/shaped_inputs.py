"""Inputs of a model for any batch size and length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from pebble.errors import InvalidArgument
from pebble.plan.families.polynomials import Shape
from pebble.tracing.inputs import Inputs, make_inputs
from pebble.tracing.resized_inputs import resized

Maker = Callable[..., Any]


class ShapedInputs:
    """Inputs of a model by shape.

    Parameters
    ----------
    model : nn.Module
    given : callable, tensor, tuple, mapping or None
        A function of batch size and length (of the batch size alone where there are no lengths);
        or an example, which is repeated and cut; or None where inputs can be inferred.
    """

    def __init__(self, model: nn.Module, given: Any = None) -> None:
        self.model, self.given = model, given

    def __call__(self, shape: Shape) -> Inputs:
        """The inputs of a shape.

        Raises
        ------
        InputsRequired, InvalidArgument
        """
        given, length = self.given, shape.length or None
        if given is None:
            return make_inputs(self.model, None, batch_size=shape.batch, seq_len=length)
        if callable(given) and not isinstance(given, torch.Tensor):
            made = given(shape.batch) if length is None else given(shape.batch, length)
            return make_inputs(self.model, made)
        return resized(make_inputs(self.model, given), shape.batch, length)


def shape_of(inputs: Inputs) -> Shape | None:
    """The shape of a call: the first dimension of its first tensor, and the second if it has one.

    Examples
    --------
    >>> shape_of(Inputs((torch.ones(2, 3), 1)))
    Shape(batch=2, length=3)
    """
    first = next((t for t in inputs.tensors() if t.dim()), None)
    return None if first is None else Shape(*first.shape[:2])


def check_lengths(lengths: Any) -> tuple[int, int]:
    """Shortest and longest, as given; (0, 0) for None.

    Raises
    ------
    InvalidArgument
    """
    if lengths is None:
        return 0, 0
    try:
        low, high = map(int, lengths)
    except (TypeError, ValueError):
        raise InvalidArgument(
            f"lengths is {lengths!r}; pass the shortest and the longest, such as (32, 1024)."
        ) from None
    if not 2 <= low <= high:
        raise InvalidArgument(
            f"lengths is {lengths!r}; the shortest is at least 2, and not above the longest."
        )
    return low, high
