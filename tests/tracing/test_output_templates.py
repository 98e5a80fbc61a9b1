"""Outputs of any shape are taken apart and come back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch

from pebble.tracing import OutputKind
from tests.tracing.capturing import Function, X, agree


@dataclass
class Answer:
    loss: torch.Tensor
    hidden: Any
    note: str = ""


class Pair(NamedTuple):
    loss: torch.Tensor
    rest: Any


class Box:
    """Neither a dataclass nor a container, as a key-value cache is."""

    def __init__(self, keys: list[torch.Tensor]) -> None:
        self.keys = keys
        self.length = 3


SHAPES: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "tuple": lambda s, h: (s, None, h),
    "list": lambda s, h: [s, [h, h.view(-1)]],
    "dict": lambda s, h: {"other": h, "loss": s, "n": 3},
    "dataclass": lambda s, h: Answer(s, (h, h * 2), "text"),
    "namedtuple": lambda s, h: Pair(s, {"h": h}),
    "object": lambda s, h: (s, Box([h])),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_of_any_shape_come_back(shape: str) -> None:
    make = SHAPES[shape]

    def forward(self: Any, x: torch.Tensor) -> Any:
        hidden = self.first(x)
        return make(hidden.square().mean(), hidden)

    captured = agree(Function(forward), (X,))
    kinds = [o.kind for o in captured.outputs]
    named = shape in ("dict", "dataclass", "namedtuple")
    assert kinds.count(OutputKind.DIFFERENTIABLE) == (1 if named else len(kinds))
    assert len(captured.tangents) == kinds.count(OutputKind.DIFFERENTIABLE)
    assert captured.tangents[0].node.meta["val"].dim() == 0


def test_outputs_that_are_inputs_or_weights() -> None:
    def forward(self: Any, x: torch.Tensor) -> Any:
        return self.first(x).sum(), x, self.first.weight, x[:2]

    agree(Function(forward), (X,))
