"""Low-rank adapters (Hu et al. 2021) on the linear layers of a frozen model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from pebble.errors import InvalidArgument

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
