"""Where the benchmarks' models are registered, and what several of them are made with.

Every entry makes a model in training mode and its inputs (keyword arguments, labels included where
the model has a loss of its own). Nothing is downloaded: configurations only, random weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Made = tuple[nn.Module, dict[str, Any]]
Maker = Callable[[], Made]


def registry(models: dict[str, Maker]) -> Callable[[Maker], Maker]:
    """A decorator that registers a model in a table under its function's name."""

    def entry(make: Maker) -> Maker:
        def seeded() -> Made:
            torch.manual_seed(0)
            model, inputs = make()
            return model.train(), inputs

        models[make.__name__] = seeded
        return seeded

    return entry


def tokens(batch: int, length: int, vocabulary: int) -> torch.Tensor:
    """Random ids, shape (batch, length)."""
    return torch.randint(0, vocabulary, (batch, length))


def language(model: nn.Module, batch: int, length: int, vocabulary: int, **more: Any) -> Made:
    """A language model whose labels are its inputs."""
    ids = tokens(batch, length, vocabulary)
    return model, {"input_ids": ids, "labels": ids.clone(), **more}


class WithLoss(nn.Module):
    """A classifier or regressor together with its loss."""

    def __init__(self, body: nn.Module, loss: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.body = body
        self.loss = loss

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.loss(self.body(x), y)
