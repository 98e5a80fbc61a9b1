"""What the tests of planned modules share: a model with modes and state, planned to recompute."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pebble.runtime import build
from pebble.tracing import capture
from tests.runtime.schedules import everything_again


class Net(nn.Module):
    """A classifier with everything that has a mode or a state."""

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(p)
        self.head = nn.Linear(8, 3)
        self.note = "kept"

    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> Any:
        logits = self.head(self.dropout(self.inner(x)))
        if y is None:
            return logits
        return {"loss": F.cross_entropy(logits, y), "logits": logits, "name": self.note}

    def double_note(self) -> str:
        return self.note * 2


X, Y = torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])


def planned(model: nn.Module, *args: Any, on_mismatch: str = "error", **kwargs: Any) -> Any:
    captured = capture(model, args, kwargs)
    return build(model, captured, everything_again(captured.graph), on_mismatch=on_mismatch)


def grads(model: nn.Module) -> list[torch.Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in model.parameters()]


def equal(a: list[Any], b: list[Any]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
