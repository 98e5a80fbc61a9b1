"""Low-rank adapters (Hu et al. 2021) on the linear layers of a frozen model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pebble.errors import InvalidArgument
from pebble.tracing.inputs import Inputs
from pebble.tracing.torch_private.fake_tensors import FakeTensorMode, fake_mode_of
from pebble.tracing.torch_private.pytree import tree_map_only

LORA_TARGETS = ("q_proj", "v_proj", "c_attn", "query", "value")


class Adapted(nn.Module):
    """A frozen linear layer plus a trainable product of two thin matrices.

    Parameters
    ----------
    base : nn.Linear, or a layer with a weight of shape (inputs, outputs) such as GPT-2's
    rank : int
    """

    def __init__(self, base: nn.Module, rank: int) -> None:
        super().__init__()
        weight: torch.Tensor = base.weight  # type: ignore[assignment]
        inputs, outputs = weight.shape if not isinstance(base, nn.Linear) else weight.shape[::-1]
        self.base = base
        self.down = nn.Parameter(torch.empty(rank, inputs, dtype=weight.dtype))
        self.up = nn.Parameter(torch.zeros(outputs, rank, dtype=weight.dtype))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The frozen layer's result and the adapter's."""
        result: torch.Tensor = self.base(x) + F.linear(F.linear(x, self.down), self.up)
        return result


def add_adapters(model: nn.Module, rank: int, targets: Sequence[str] = LORA_TARGETS) -> list[str]:
    """Freeze a model and give its target layers adapters; returns the names of these layers.

    Raises
    ------
    InvalidArgument
        If the rank is not positive or no layer matches.
    """
    if rank < 1:
        raise InvalidArgument(f"The adapters' rank is {rank}; it must be at least 1.")
    model.requires_grad_(False)
    names = [
        name
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in targets
        and getattr(getattr(module, "weight", None), "ndim", 0) == 2
    ]
    if not names:
        raise InvalidArgument(
            f"No linear layer of {type(model).__name__} is called {' or '.join(targets)}; pass "
            "lora_targets= the last names of the layers to adapt."
        )
    for name in names:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, Adapted(model.get_submodule(name), rank))
    return names


def adapted_copy(
    model: nn.Module, inputs: Inputs, rank: int
) -> tuple[nn.Module, tuple[tuple[Any, ...], dict[str, Any]]]:
    """A copy of a model and its inputs on tensors without memory, frozen and with adapters.

    Raises
    ------
    InvalidArgument
        If no layer matches `LORA_TARGETS`, or the model cannot be copied.
    """
    tensors = (*model.parameters(), *model.buffers())
    mode = fake_mode_of(*tensors) or FakeTensorMode()

    def without_memory(tensor: torch.Tensor) -> torch.Tensor:
        if fake_mode_of(tensor) is None:
            return mode.from_tensor(tensor.detach())
        with mode:
            return torch.empty_like(tensor)

    memo: dict[int, Any] = {}
    for tensor in tensors:
        fake = without_memory(tensor)
        parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(fake, tensor.requires_grad) if parameter else fake
    try:
        copied = copy.deepcopy(model, memo)
    except Exception as error:  # anything may stand in a model
        raise InvalidArgument(
            f"This {type(model).__name__} cannot be copied ({error}); make a model with adapters "
            "and plan that."
        ) from None
    with mode:
        add_adapters(copied, rank)
    args, kwargs = tree_map_only(torch.Tensor, without_memory, (inputs.args, dict(inputs.kwargs)))
    return copied, (args, kwargs)
