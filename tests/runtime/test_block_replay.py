"""A block that runs again in the backward runs as it did: draws, modes, attributes, statistics."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pebble
from pebble.measure.random_sources import RandomSources
from pebble.runtime.block_replay import Replay

shared = np.random.default_rng(0)


class Draws(nn.Module):
    """Masks drawn from everywhere that people draw from."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.own = torch.Generator()
        self.twister = random.Random(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = random.random() + float(np.random.rand()) + self.twister.random()  # noqa: NPY002
        mask = torch.rand(4, generator=self.own) + float(shared.random()) + torch.rand(4)
        return self.linear(x).sigmoid() * mask * scale


class Counts(nn.Module):
    """Reads what earlier calls left behind."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.calls = 0
        self._last: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        made = (self.linear(x) * self.calls).tanh()
        if self._last is not None:
            made = made * self._last
        self._last = made.detach()
        return made


class Grows(Counts):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(1.0)
        return self.linear(x).tanh() * len(self.seen)


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.5))


def leave(model: nn.Module, replayed: bool, between: Callable[[nn.Module], Any]) -> list[Any]:
    """Everything that two calls and their backwards leave behind."""
    global shared
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    shared = np.random.default_rng(0)
    x = torch.randn(8, 4, requires_grad=True)
    left: list[Any] = []
    for _ in range(2):
        call = model
        if replayed:
            call = Replay("block", model, model.forward, RandomSources(model), nullcontext).call
        made = call(x)
        between(model)
        made.square().sum().backward()
        left += [made.detach(), x.grad.clone(), *(p.grad.clone() for p in model.parameters())]
        model.train()
    left += [b.clone() for b in model.buffers()] + [torch.rand(2), random.random()]
    return [*left, shared.random(), getattr(model, "calls", None)]


def same(a: list[Any], b: list[Any]) -> bool:
    return all(torch.equal(x, y) if torch.is_tensor(x) else x == y for x, y in zip(a, b))


@pytest.mark.parametrize("make", [Draws, Counts, normed])
@pytest.mark.parametrize("between", [lambda m: None, nn.Module.eval])
def test_it_leaves_what_one_run_leaves(make: Any, between: Any) -> None:
    torch.manual_seed(1)
    a, b = make(), make()
    b.load_state_dict(a.state_dict())
    assert same(leave(a, False, between), leave(b, True, between))


def test_what_is_appended_to_in_the_forward_is_told() -> None:
    block = Grows()
    replay = Replay("block", block, block.forward, RandomSources(block), nullcontext)
    with pytest.raises(pebble.PlanMismatch, match="'block' writes to a list it holds"):
        replay.call(torch.ones(2, 4))


def test_parameters_that_change_before_the_backward_are_told() -> None:
    block = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    replay = Replay("block", block, block.forward, RandomSources(block), nullcontext)
    made = replay.call(torch.ones(2, 4))
    with torch.no_grad():
        block[0].bias.add_(1)  # eager would not notice, nor need it
    with pytest.raises(pebble.PlanMismatch, match="changed between its forward and its backward"):
        made.sum().backward()


def test_lists_that_are_passed_are_the_callers_own() -> None:
    class Appends(nn.Module):
        def forward(self, x: torch.Tensor, notes: list[Any]) -> torch.Tensor:
            notes.append("note")
            return x.sin().sin()

    block, notes = Appends(), []
    replay = Replay("block", block, block.forward, RandomSources(block), nullcontext)
    made = replay.call(torch.ones(2, requires_grad=True), notes=notes)
    made.sum().backward()
    assert notes == ["note"]
