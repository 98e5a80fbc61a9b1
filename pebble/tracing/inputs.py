"""The inputs of a step: what users pass, made uniform."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pebble.errors import InvalidArgument
from pebble.tracing.inferred_inputs import infer_inputs
from pebble.tracing.torch_private.pytree import tree_leaves


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
        If the tensors are on more than one device, or are not what the forward takes.
    """
    if inputs is None:
        inputs = _own_example(model)
    if inputs is None:
        inputs = infer_inputs(model, batch_size, seq_len)
    found = inputs if isinstance(inputs, Inputs) else Inputs(*_arguments(inputs))
    _check_devices(model, found)
    _check_arguments(model, found)
    return found


def _own_example(model: Any) -> Inputs | None:
    """The inputs that an exported program was traced on."""
    if isinstance(model, torch.export.ExportedProgram) and model.example_inputs is not None:
        args, kwargs = model.example_inputs
        return Inputs(tuple(args), kwargs)
    return None


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if isinstance(inputs, torch.Tensor):
        return (inputs,), {}
    if isinstance(inputs, Mapping):
        return (), inputs
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    raise InvalidArgument(
        f"The inputs are a {type(inputs).__name__}; pass a tensor, a tuple of positional "
        "arguments, or a mapping of keyword arguments."
    )


def _check_arguments(model: Any, inputs: Inputs) -> None:
    """Refuse inputs that the forward does not take, before torch says so in its own words."""
    forward = getattr(model, "forward", None)
    if not isinstance(model, nn.Module) or forward is None:
        return
    try:
        signature = inspect.signature(forward)
        signature.bind(*inputs.args, **inputs.kwargs)
    except ValueError:  # a forward that is no Python function
        return
    except TypeError as error:
        hint = ""
        if "too many positional" in str(error):
            hint = " The labels of a batch belong into loss=, a function of the model's output."
        raise InvalidArgument(
            f"The inputs do not fit {type(model).__name__}.forward{signature}: {error}. Pass a "
            f"tuple of its positional arguments, or a mapping of its keyword arguments.{hint}"
        ) from None


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
