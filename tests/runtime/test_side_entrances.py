"""A training call that goes into a planned module past its forward is told."""

from __future__ import annotations

import copy
import pickle
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.tracing.torch_private.modules import has_call_hooks
from tests.runtime.following import X, planned

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x).tanh()
        return x


class Trainer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = Body(), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x)).sum()

    def training_step(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x)).sum()

    def manual_step(self, x: torch.Tensor) -> None:
        self.head(x).sum().backward()


def layer_by_layer(module: Any) -> None:
    h = X
    for layer in module.body.layers:
        h = layer(h)
    h.sum().backward()


def patched_forward(module: Any) -> None:
    module.forward = types.MethodType(lambda self, x: self.head(x).sum(), module)
    module(X).backward()


class Wrapper(nn.Module):
    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net.training_step(x)


ENTRANCES: dict[str, Callable[[Any], None]] = {
    "another method": lambda module: module.training_step(X).backward(),
    "a method that runs its own backward": lambda module: module.manual_step(X),
    "a wrapper that calls another method": lambda module: Wrapper(module)(X).backward(),
    "a submodule": lambda module: module.head(X).sum().backward(),
    "the forward of a submodule": lambda module: module.body.forward(X).sum().backward(),
    "a part deep inside": lambda module: module.body.layers[1](X).sum().backward(),
    "layer by layer": layer_by_layer,
    "a patched forward": patched_forward,
}


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_training_call_past_the_forward_is_told(entrance: str) -> None:
    module = planned(Trainer(), X)
    with pytest.warns(pebble.PlanNotInEffect, match="inside the planned Trainer") as told:
        ENTRANCES[entrance](module)
    assert told[0].filename == __file__
    found = pebble.status(module)
    assert (found.planned_calls, found.unplanned_calls > 0) == (0, True)
    assert "past the forward" in str(found)


def test_it_is_told_once_and_counted_each_time() -> None:
    module = planned(Trainer(), X)
    with pytest.warns(pebble.PlanNotInEffect) as told:
        for _ in range(20):
            module.head(X).sum().backward()
    assert len(told) == 1
    assert pebble.status(module).unplanned_calls == 20


def test_looking_at_a_part_is_no_call_and_leaves_nothing() -> None:
    model = Trainer()
    module = planned(model, X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(20):
            assert module.head.weight.shape == (2, 6)
            module(X).backward()
            module.zero_grad()
            assert not any(map(has_call_hooks, model.modules()))
    assert pebble.status(module).in_effect


def test_a_part_without_anything_to_learn_may_be_called() -> None:
    model = Trainer()
    model.body.requires_grad_(False)
    module = planned(model, X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module.body(X)
    assert pebble.status(module).unplanned_calls == 0


def test_a_model_that_is_watched_is_copied_pickled_and_planned_again() -> None:
    model = Trainer()
    watching = planned(model, X)
    for twin in (copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), lambda m: m):
        assert watching.body is model.body
        assert has_call_hooks(model.body)
        again = planned(twin(model), X)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again(X).backward()
            again.zero_grad()
        assert pebble.status(again).in_effect
        assert pebble.status(watching).unplanned_calls == 0


def test_the_model_s_own_forward_is_no_side_entrance() -> None:
    module = planned(Trainer(), X, on_mismatch="eager")
    with pytest.warns(pebble.PlanNotInEffect) as told:
        module(X[:2]).backward()
    assert "shape" in str(told[0].message)
    assert len(told) == 1
    assert pebble.status(module).unplanned_calls == 1
