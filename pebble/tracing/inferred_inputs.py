"""Inputs inferred from a model that says enough of itself."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from pebble.errors import InputsRequired
from pebble.tracing.random_tensors import float_dtype, random_integers, random_like

DEFAULT_SEQ_LEN = 1024


def infer_inputs(model: Any, batch_size: int | None, seq_len: int | None) -> Any:
    """Inputs of a model, in a form that users pass them in.

    Parameters
    ----------
    model : nn.Module, GraphModule or ExportedProgram
        A traced graph whose placeholders have shapes, a module with an ``example_input_array``,
        or a Hugging Face model.
    batch_size, seq_len : int or None
        For a Hugging Face model: default 1 and the model's longest sequence, at most 1024.

    Raises
    ------
    InputsRequired
        If the model tells too little of them.
    """
    if isinstance(model, torch.fx.GraphModule):
        traced = _from_placeholders(model)
        if traced is not None:
            return traced
    example = getattr(model, "example_input_array", None)
    if example is not None:
        return example
    config = getattr(model, "config", None)
    if hasattr(config, "model_type") and hasattr(model, "main_input_name"):
        return _from_hugging_face(model, config, batch_size or 1, seq_len)
    raise InputsRequired(
        f"The inputs of {type(model).__name__} cannot be inferred; pass inputs= (a tensor, a "
        "tuple of positional arguments or a dict of keyword arguments, on the shapes you train on)."
    )


def _from_placeholders(model: torch.fx.GraphModule) -> tuple[Any, ...] | None:
    args = []
    for node in model.graph.nodes:
        if node.op != "placeholder":
            continue
        value = node.meta.get("val", node.meta.get("example_value"))
        shape = node.meta.get("tensor_meta")
        if isinstance(value, torch.Tensor):
            args.append(random_like(model, value.shape, value.dtype))
        elif shape is not None and hasattr(shape, "shape"):
            args.append(random_like(model, shape.shape, shape.dtype))
        else:
            return None
    return tuple(args)


def _from_hugging_face(
    model: Any, config: Any, batch_size: int, seq_len: int | None
) -> dict[str, Any]:
    accepted = inspect.signature(model.forward).parameters
    main: str = model.main_input_name
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    token_labels = None
    if main == "input_ids" and getattr(text, "vocab_size", None):
        longest = getattr(text, "max_position_embeddings", None) or DEFAULT_SEQ_LEN
        length = seq_len or min(longest, DEFAULT_SEQ_LEN)
        kwargs = {main: random_integers(model, (batch_size, length), text.vocab_size)}
        token_labels = kwargs[main]
    elif main == "pixel_values" and getattr(config, "image_size", None):
        kwargs = {main: _pixels(model, config, batch_size)}
    else:
        raise InputsRequired(
            f"The inputs of {type(model).__name__} (main input {main!r}) cannot be inferred; "
            "pass inputs= as a dict of keyword arguments, labels included."
        )
    if "labels" in accepted:
        kwargs |= _labels(model, config, batch_size, token_labels)
    return kwargs | ({"use_cache": False} if "use_cache" in accepted else {})


def _pixels(model: Any, config: Any, batch_size: int) -> torch.Tensor:
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    shape = (batch_size, getattr(config, "num_channels", 3), height, width)
    return random_like(model, shape, float_dtype(model))


def _labels(
    model: Any, config: Any, batch_size: int, of_tokens: torch.Tensor | None
) -> dict[str, torch.Tensor]:
    classes = getattr(config, "num_labels", None)
    whole = "Classification" in type(model).__name__ and "Token" not in type(model).__name__
    if whole and classes:
        return {"labels": random_integers(model, (batch_size,), classes)}
    return {} if of_tokens is None else {"labels": of_tokens}
