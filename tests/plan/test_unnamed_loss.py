"""A loss that nobody named: told of where the budget has no room for it."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import BudgetNotKept

X = torch.randn(256, 64)


def deep() -> nn.Module:
    return nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.GELU()) for _ in range(4)])


def told(budget_bytes: int, model: nn.Module | None = None, **options: object) -> list[str]:
    asked = {"optimizer": None, "costs": "flops", "solver": "greedy"} | options
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pebble.optimize(model or deep(), X, budget_bytes=budget_bytes, **asked)
    return [str(w.message) for w in caught if w.category is BudgetNotKept]


def least_room() -> int:
    free = pebble.optimize(deep(), X, budget_gb=1, optimizer=None, costs="flops", solver="keep_all")
    return free.peak_bytes


def test_a_budget_without_room_for_a_loss_says_so() -> None:
    (text,) = told(least_room())
    assert "Pass it as loss=" in text
    assert "196.61 kB" in text, "three copies of the output"


def test_with_room_or_with_the_loss_named_nothing_is_said() -> None:
    peak = least_room()
    assert not told(peak + 3 * X.nbytes)
    assert not told(peak + 3 * X.nbytes, loss=lambda y: y.square().mean())
    tight = pebble.optimize(
        deep(), X, budget_gb=1, optimizer=None, costs="flops", loss=lambda y: y.square().mean()
    )
    assert not told(tight.peak_bytes, loss=lambda y: y.square().mean())


class Scalar(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = deep()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x).square().mean()


@pytest.mark.parametrize("share", [1.0, 2.0])
def test_a_model_that_returns_its_loss_needs_no_word(share: float) -> None:
    free = pebble.optimize(Scalar(), X, budget_gb=1, optimizer=None, costs="flops")
    assert not told(int(share * free.peak_bytes), Scalar())
