"""The inputs of a step in a plan file: shapes of tensors, and everything else as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from pebble.errors import PlanFormatError
from pebble.tracing.inputs import Inputs
from pebble.tracing.random_tensors import random_like

_DTYPES = {str(d).removeprefix("torch."): d for d in vars(torch).values() if type(d) is torch.dtype}
_KINDS = ("tensor", "same_as", "dict", "list", "tuple", "value", "opaque")


def inputs_to_json(inputs: Inputs) -> Any:
    """Shapes, strides, dtypes and devices of tensors, other leaves as they are.

    A tensor that occurs again (token ids that are their own labels) is written as the same one.
    """
    seen: dict[int, int] = {}
    args = _encode(list(inputs.args), seen)
    return {"args": args, "kwargs": _encode(dict(inputs.kwargs), seen)}


def inputs_from_json(data: Any, model: Any) -> Inputs:
    """Tensors of the recorded shapes on the model's device: integers zero, floats random."""
    made: list[torch.Tensor] = []
    args = tuple(_decode(data["args"], model, made))
    return Inputs(args, _decode(data["kwargs"], model, made))


def _encode(item: Any, seen: dict[int, int]) -> Any:
    if isinstance(item, torch.Tensor):
        if id(item) in seen:
            return {"same_as": seen[id(item)]}
        seen[id(item)] = len(seen)
        return {
            "tensor": list(item.shape),
            "dtype": str(item.dtype).removeprefix("torch."),
            "stride": list(item.stride()),
            "requires_grad": item.requires_grad,
        }
    if isinstance(item, Mapping):
        return {"dict": {str(key): _encode(value, seen) for key, value in item.items()}}
    if isinstance(item, (list, tuple)):
        return {type(item).__name__: [_encode(value, seen) for value in item]}
    if item is None or isinstance(item, (bool, int, float, str)):
        return {"value": item}
    return {"opaque": repr(item)}


def _decode(item: Any, model: Any, made: list[torch.Tensor]) -> Any:
    ((kind, content),) = [(k, v) for k, v in item.items() if k in _KINDS]
    if kind == "tensor":
        made.append(_tensor(item, model))
        return made[-1]
    if kind == "same_as":
        return made[content]
    if kind == "dict":
        return {key: _decode(value, model, made) for key, value in content.items()}
    if kind in ("list", "tuple"):
        values = [_decode(value, model, made) for value in content]
        return values if kind == "list" else tuple(values)
    if kind == "opaque":
        raise PlanFormatError(
            f"The plan's inputs hold {content}, which a file cannot keep; pass inputs= again."
        )
    return content


def _tensor(item: Mapping[str, Any], model: Any) -> torch.Tensor:
    shape = tuple(item["tensor"])
    dense = random_like(model, shape, _DTYPES[item["dtype"]])
    if list(dense.stride()) != item["stride"]:
        strided = torch.empty_strided(shape, item["stride"], dtype=dense.dtype, device=dense.device)
        dense = strided.copy_(dense)
    return dense.requires_grad_(item["requires_grad"])
