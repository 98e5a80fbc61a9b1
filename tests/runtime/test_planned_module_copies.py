"""A planned module is copied, saved and loaded, planned again, and compiled."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from pebble.errors import PlanMismatch
from pebble.runtime import PlannedModule, build
from pebble.schedule import Schedule
from pebble.tracing import capture
from tests.runtime.following import Net, X, Y, equal, grads, planned

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def test_a_deep_copy_trains_its_own_weights() -> None:
    model = Net()
    module = planned(model, X, Y)
    twin = copy.deepcopy(module)
    assert isinstance(twin, PlannedModule)
    twin(X, Y)["loss"].backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in twin.parameters())


def test_a_copy_knows_that_the_forward_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    module = planned(Net(), X, Y)
    monkeypatch.setattr(Net, "forward", lambda self, x, y: {"loss": self.head.bias.sum()})
    with pytest.raises(PlanMismatch, match="forward of Net was replaced"):
        copy.deepcopy(module)(X, Y)


def test_torch_save_and_load_keep_the_plan() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    module = planned(model, X)
    module(X).sum().backward()
    expected = grads(model)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert isinstance(loaded, PlannedModule)
    loaded(X).sum().backward()
    loaded.zero_grad()
    loaded(X).sum().backward()
    assert equal(expected, grads(loaded))
    follower = loaded.__dict__["_pebble_follower"]
    assert follower.step is not None
    assert follower.schedule == module.__dict__["_pebble_follower"].schedule


def test_the_state_dict_loads_into_the_model_without_a_plan() -> None:
    module = planned(Net(), X, Y)
    assert not Net().load_state_dict(module.state_dict()).missing_keys


def test_a_graph_module_can_be_planned_and_copied() -> None:
    model = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)))
    module = planned(model, X)
    module(X).sum().backward()
    assert copy.deepcopy(module)(X).shape == (5, 2)


def test_a_planned_module_can_be_planned_again() -> None:
    model = Net()
    module = planned(model, X, Y)
    captured = capture(model, (X, Y))
    module = build(module, captured, Schedule.keep_all(captured.graph))
    module(X, Y)["loss"].backward()
    assert type(module).__mro__.count(PlannedModule) == 1


def test_torch_compile_around_it_still_follows_the_plan() -> None:
    model = Net()
    module = planned(model, X, Y)
    module(X, Y)["loss"].backward()
    expected = grads(model)
    model.zero_grad()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm1d):
            m.reset_running_stats()
    compiled = torch.compile(module, backend="eager")
    output = compiled(X, Y)
    output["loss"].backward()
    assert equal(expected, grads(model))
