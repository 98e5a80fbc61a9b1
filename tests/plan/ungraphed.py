"""Small models that are no single graph."""

from __future__ import annotations

import torch
from torch import nn


class Residual(nn.Module):
    """A block with dropout."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.2), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x)


class Averages(Residual):
    """Keeps a moving average of what it sees, and reads it: it may run once only."""

    def __init__(self, width: int = 16) -> None:
        super().__init__(width)
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.mean.lerp_(x.mean(0), 0.1)
        return super().forward(x - self.mean)


class EarlyExit(nn.Module):
    """Leaves where its data say, unless they never do."""

    def __init__(self, blocks: list[nn.Module] | None = None, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks or [Residual(width) for _ in range(4)])
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
            if x.abs().mean() > 100:
                break
        return self.head(self.norm(x))


def example() -> torch.Tensor:
    """Inputs of these models."""
    return torch.randn(64, 16, generator=torch.Generator().manual_seed(0))


def loss(output: torch.Tensor) -> torch.Tensor:
    """A scalar of their output."""
    return output.square().mean()
