"""Steps whose tracing, measuring or refusing once ended in a traceback."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pebble
from tests.tracing.asserting import checked

GENEROUS = 10**9


class Loss(nn.Module):
    """Cross entropy of what a function makes of a linear layer."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.head, self.function = nn.Linear(8, 8), function

    def forward(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.function(self.head(x)), target)


def planned(model: nn.Module, inputs: Any, **options: Any) -> Any:
    plan = pebble.optimize(
        model, inputs, budget_bytes=GENEROUS, optimizer=None, solver="recompute_all", **options
    )
    return plan.apply(model)


def test_an_assert_fails_in_a_planned_step_as_in_eager() -> None:
    model = Loss(checked)
    step = planned(model, (torch.randn(4, 8), torch.zeros(4, dtype=torch.long)))
    with pytest.raises(RuntimeError, match="not finite"):
        step(torch.full((4, 8), torch.nan), torch.zeros(4, dtype=torch.long))


def test_a_singular_matrix_raises_in_a_planned_step_as_in_eager() -> None:
    class Solves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.eye(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.solve(self.weight, x)

    model = Solves()
    step = planned(model, torch.randn(3, 2))
    with torch.no_grad():
        model.weight.zero_()
    with pytest.raises(torch.linalg.LinAlgError, match="singular"):
        step(torch.randn(3, 2))


@pytest.mark.parametrize("rows", [0, 4])
def test_tensors_without_elements(rows: int) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    x = torch.randn(rows, 8)

    def loss(y: torch.Tensor) -> torch.Tensor:
        return y[:, :0].sum() + y.square().sum()

    loss(planned(model, x, loss=loss)(x)).backward()
    found = [p.grad for p in model.parameters()]
    expected = torch.autograd.grad(loss(model(x)), list(model.parameters()))
    for mine, theirs in zip(found, expected, strict=True):
        assert mine is not None
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    "function",
    [
        nn.LayerNorm(8),
        nn.GroupNorm(2, 8),
        checked,
        lambda z: z.view(4, 2, 4).max(1)[0],
        lambda z: z.chunk(2, -1)[0],
        lambda z: torch.stack(z.unbind(0)),
    ],
    ids=["layer norm", "group norm", "assert", "max", "chunk", "unbind"],
)
def test_a_small_budget_is_refused_whatever_makes_the_logits(function: Any) -> None:
    with pytest.raises(pebble.InfeasibleBudget, match="10 B is below"):
        pebble.optimize(
            Loss(function), (torch.randn(4, 8), torch.zeros(4, dtype=torch.long)), budget_bytes=10
        )


class Cached(nn.Module):
    """A model that returns a cache unless it is told not to, as those of Hugging Face do."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.config = nn.Linear(8, 8), SimpleNamespace(use_cache=True)

    def forward(self, x: torch.Tensor, use_cache: bool | None = None) -> Any:
        y = self.mix(x)
        return (y.sum(), y) if use_cache is not False else (y.sum(),)


class Adapter(nn.Module):
    """Hands on whatever it is called with, as peft's models do."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Cached()
        self.config = self.base.config

    def get_base_model(self) -> nn.Module:
        return self.base

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.base(*args, **kwargs)


@pytest.mark.parametrize("make", [Cached, Adapter])
def test_a_model_that_captures_without_its_cache_takes_the_inputs_it_was_planned_on(
    make: Callable[[], nn.Module],
) -> None:
    model, x = make(), torch.randn(4, 8)
    step = planned(model, {"x": x})
    assert len(step(x=x)) == len(step(x=x, use_cache=False)) == 1
    with pytest.raises(pebble.PlanMismatch, match="use_cache"):
        step(x=x, use_cache=True)
