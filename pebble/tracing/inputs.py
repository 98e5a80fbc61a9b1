"""The inputs of a step: what users pass, made uniform; and what can be inferred from a model."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pebble.errors import InputsRequired, InvalidArgument, PlanFormatError
from pebble.tracing.torch_private.pytree import tree_leaves

DEFAULT_SEQ_LEN = 1024
_DTYPES = {str(d).removeprefix("torch."): d for d in vars(torch).values() if type(d) is torch.dtype}


@dataclass(frozen=True)
class Inputs:
    """Positional and keyword arguments of the model's forward."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def tensors(self) -> list[torch.Tensor]:
        """All tensors inside, in a fixed order."""
        leaves = tree_leaves((self.args, self.kwargs))
        return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def make_inputs(
    model: Any, inputs: Any = None, *, batch_size: int | None = None, seq_len: int | None = None
) -> Inputs:
    """Uniform inputs of a model.

    Parameters
    ----------
    model : nn.Module, GraphModule or ExportedProgram
    inputs : tensor, tuple or list (positional), mapping (keywords), or None to infer them
    batch_size, seq_len : int, optional
        For a Hugging Face model whose inputs are inferred: default 1 and the model's longest
        sequence, at most 1024.

    Raises
    ------
    InputsRequired
        If there are none and they cannot be inferred.
    InvalidArgument
        If the tensors are on more than one device.
    """
    if isinstance(inputs, Inputs):
        found = inputs
    elif inputs is None:
        found = _infer(model, batch_size, seq_len)
    elif isinstance(inputs, torch.Tensor):
        found = Inputs((inputs,))
    elif isinstance(inputs, Mapping):
        found = Inputs((), inputs)
    elif isinstance(inputs, (tuple, list)):
        found = Inputs(tuple(inputs))
    else:
        raise InvalidArgument(
            f"The inputs are a {type(inputs).__name__}; pass a tensor, a tuple of positional "
            "arguments, or a mapping of keyword arguments."
        )
    _check_devices(model, found)
    return found


def _check_devices(model: Any, inputs: Inputs) -> None:
    places = {str(t.device): "an input" for t in inputs.tensors()}
    if isinstance(model, nn.Module):
        for name, parameter in model.named_parameters():
            places.setdefault(str(parameter.device), f"parameter {name!r}")
    if len(places) > 1:
        listed = ", ".join(f"{who} on {device}" for device, who in places.items())
        raise InvalidArgument(
            f"The step spans several devices ({listed}); move the model and its inputs to one."
        )


# -- inference ---------------------------------------------------------------------------------


def _infer(model: Any, batch_size: int | None, seq_len: int | None) -> Inputs:
    if isinstance(model, torch.export.ExportedProgram):
        if model.example_inputs is not None:
            args, kwargs = model.example_inputs
            return Inputs(tuple(args), kwargs)
    elif isinstance(model, torch.fx.GraphModule):
        traced = _from_placeholders(model)
        if traced is not None:
            return traced
    example = getattr(model, "example_input_array", None)
    if example is not None:
        return make_inputs(model, example)
    config = getattr(model, "config", None)
    if hasattr(config, "model_type") and hasattr(model, "main_input_name"):
        return _from_hugging_face(model, config, batch_size or 1, seq_len)
    raise InputsRequired(
        f"The inputs of {type(model).__name__} cannot be inferred; pass inputs= (a tensor, a "
        "tuple of positional arguments or a dict of keyword arguments, on the shapes you train on)."
    )


def _from_placeholders(model: torch.fx.GraphModule) -> Inputs | None:
    args = []
    for node in model.graph.nodes:
        if node.op != "placeholder":
            continue
        value = node.meta.get("val", node.meta.get("example_value"))
        shape = node.meta.get("tensor_meta")
        if isinstance(value, torch.Tensor):
            args.append(_like(model, value.shape, value.dtype))
        elif shape is not None and hasattr(shape, "shape"):
            args.append(_like(model, shape.shape, shape.dtype))
        else:
            return None
    return Inputs(tuple(args))


def _from_hugging_face(model: Any, config: Any, batch_size: int, seq_len: int | None) -> Inputs:
    accepted = inspect.signature(model.forward).parameters
    main: str = model.main_input_name
    kwargs: dict[str, Any] = {}
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    if main == "input_ids" and getattr(text, "vocab_size", None):
        longest = getattr(text, "max_position_embeddings", None) or DEFAULT_SEQ_LEN
        length = seq_len or min(longest, DEFAULT_SEQ_LEN)
        ids = _random_int(model, (batch_size, length), text.vocab_size)
        kwargs["input_ids"] = ids
        token_labels = ids
    elif main == "pixel_values" and getattr(config, "image_size", None):
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        shape = (batch_size, getattr(config, "num_channels", 3), height, width)
        kwargs["pixel_values"] = _like(model, shape, _float_dtype(model))
        token_labels = None
    else:
        raise InputsRequired(
            f"The inputs of {type(model).__name__} (main input {main!r}) cannot be inferred; "
            "pass inputs= as a dict of keyword arguments, labels included."
        )
    if "labels" in accepted:
        classes = getattr(config, "num_labels", None)
        whole = "Classification" in type(model).__name__ and "Token" not in type(model).__name__
        if whole and classes:
            kwargs["labels"] = _random_int(model, (batch_size,), classes)
        elif token_labels is not None:
            kwargs["labels"] = token_labels
    if "use_cache" in accepted:
        kwargs["use_cache"] = False
    return Inputs((), kwargs)


def _fake_mode(model: Any) -> Any:
    for parameter in model.parameters() if isinstance(model, nn.Module) else ():
        return getattr(parameter, "fake_mode", None)
    return None


def _place(model: Any) -> tuple[torch.device, Any]:
    first = next(iter(model.parameters()), None) if isinstance(model, nn.Module) else None
    device = torch.device("cpu") if first is None else first.device
    return device, _fake_mode(model) or contextlib.nullcontext()


def _float_dtype(model: nn.Module) -> torch.dtype:
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(floats, torch.get_default_dtype())


def _random_int(model: Any, shape: tuple[int, ...], high: int) -> torch.Tensor:
    device, mode = _place(model)
    generator = None if _fake_mode(model) else torch.Generator().manual_seed(0)
    with mode:
        return torch.randint(0, high, shape, generator=generator).to(device)


def _like(model: Any, shape: Any, dtype: torch.dtype) -> torch.Tensor:
    device, mode = _place(model)
    with mode:
        if not dtype.is_floating_point:
            return torch.zeros(tuple(shape), dtype=dtype, device=device)
        generator = None if _fake_mode(model) else torch.Generator().manual_seed(0)
        return torch.randn(tuple(shape), generator=generator).to(device, dtype)


# -- inputs in a plan file -----------------------------------------------------------------------


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
    dense = _like(model, shape, _DTYPES[item["dtype"]])
    if list(dense.stride()) != item["stride"]:
        strided = torch.empty_strided(shape, item["stride"], dtype=dense.dtype, device=dense.device)
        dense = strided.copy_(dense)
    return dense.requires_grad_(item["requires_grad"])


_KINDS = ("tensor", "same_as", "dict", "list", "tuple", "value", "opaque")
