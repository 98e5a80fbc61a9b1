"""The joint graph holds the ops of the step alone, and gradients as autograd takes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tests.tracing.capturing import Function, X, agree


def test_gradients_are_laid_out_for_autograd_to_take() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.ones(4, 8)), nn.Parameter(torch.ones(4, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.a + self.b + x).sum()

    captured = agree(Sums(), (X,))
    for gradient in captured.gradients.values():
        assert gradient is not None and gradient.meta["val"].is_contiguous()


def test_gradients_that_are_parts_of_one_tensor() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.ones(4, 2)), nn.Parameter(torch.ones(4, 6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.a, self.b], 1).mul(x).exp()

    captured = agree(Parts(), (X,))
    gradients = captured.gradients.values()
    sizes = [captured.graph.values[captured.value_of[g]].size for g in gradients if g is not None]
    assert sizes == [4 * 2 * 4, 4 * 6 * 4]


def test_channels_last_weights_keep_their_layout() -> None:
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    captured = agree(model, (torch.randn(2, 3, 8, 8),))
    for slot in captured.slots:
        if slot.name == "weight":
            gradient = captured.gradients[slot.node]
            assert gradient is not None
            assert gradient.meta["val"].stride() == model.weight.stride()


def test_dead_code_is_gone() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        self.first(x).exp().sum()
        return self.first(x)

    captured = agree(Function(forward), (X,))
    assert not any("exp" in op.kind for op in captured.graph.ops)
