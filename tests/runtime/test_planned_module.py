"""A planned module is still the model: its class, its outputs, its gradients."""

from __future__ import annotations

import copy
import inspect
import pickle
import types
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from pebble.errors import PebbleError
from pebble.runtime import PlannedModule, build
from pebble.runtime.follower import follower_of, unplanned
from pebble.runtime.planned_module import plan_in_place, unplan
from pebble.schedule import Schedule
from pebble.tracing import capture
from tests.runtime.following import Net, X, Y, grads, planned

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def test_it_has_the_model_s_class_names_parameters_and_attributes() -> None:
    model = Net()
    module = planned(model, X, Y)
    assert isinstance(module, Net)
    assert isinstance(module, PlannedModule)
    assert type(module).__name__ == "Net"
    assert list(module.state_dict()) == list(model.state_dict())
    assert [n for n, _ in module.named_modules()] == [n for n, _ in model.named_modules()]
    assert all(a is b for a, b in zip(module.parameters(), model.parameters(), strict=True))
    assert module.note == "kept"
    assert module.double_note() == "keptkept"
    assert list(inspect.signature(module.forward).parameters) == ["x", "y"]


def test_it_trains_as_eager_does() -> None:
    model = Net()
    twin = copy.deepcopy(model)
    module = planned(model, X, Y)
    for net in (module, twin):
        optimizer = torch.optim.AdamW(net.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            net(X, Y)["loss"].backward()
            optimizer.step()
    for (name, a), b in zip(module.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name
    assert int(module.inner[1].num_batches_tracked) == 3


def test_outputs_keep_their_type_and_only_the_loss_has_autograd() -> None:
    output = planned(Net(), X, Y)(X, Y)
    assert type(output) is dict
    assert output["name"] == "kept"
    assert output["loss"].requires_grad
    assert output["logits"].shape == (5, 3)
    with pytest.raises(PebbleError, match="'logits'"):
        output["logits"].sum().backward()


@dataclass
class Pair:
    left: torch.Tensor
    right: tuple[torch.Tensor, None, int]


def test_a_loss_outside_of_the_model_gives_eager_s_gradients() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> Pair:
            return Pair(self.a(x), (self.b(x), None, 7))

    def loss(out: Pair) -> torch.Tensor:
        return out.left.square().sum() + out.right[0].mean()

    model = Two()
    loss(model(X)).backward()
    expected = grads(model)
    model.zero_grad()
    captured = capture(model, (X,), loss=loss)
    module = build(model, captured, Schedule.keep_all(captured.graph))
    output = module(X)
    assert type(output) is Pair
    assert output.right[1:] == (None, 7)
    loss(output).backward()
    assert all(torch.allclose(a, b) for a, b in zip(expected, grads(model), strict=True))
    # what only a root without a gradient reaches gets none, as in eager
    model.zero_grad()
    module(X).left.sum().backward()
    assert model.b.weight.grad is None
    assert model.a.weight.grad.any()


def test_a_gradient_flows_into_an_input_and_its_history() -> None:
    model = nn.Linear(6, 3)
    before = nn.Linear(6, 6)
    x = before(X)
    captured = capture(model, (x,))
    module = build(model, captured, Schedule.keep_all(captured.graph))
    module(x).sum().backward()
    found = before.weight.grad.clone()
    before.zero_grad()
    model(before(X)).sum().backward()
    assert torch.allclose(found, before.weight.grad)


def test_an_input_that_the_forward_writes_to_is_written_to() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
            seen.add_(1)
            return self.linear(x).square().mean()

    seen = torch.zeros(2)
    module = planned(Counter(), X, seen)
    module(X, seen).backward()
    assert seen.tolist() == [1.0, 1.0]


class Wrapped:
    """A forward around a forward, as accelerate puts it on a model."""

    def __init__(self, forward: Any) -> None:
        self.forward, self.calls = forward, 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return self.forward(*args)


def test_a_model_planned_in_place_stays_the_same_object_and_is_undone() -> None:
    model = Net()
    twin, before = copy.deepcopy(model), set(vars(model))
    follower = follower_of(planned(model, X, Y))
    for _ in range(2):  # the second takes the place of the first
        plan_in_place(model, follower)
        assert isinstance(model, PlannedModule)
        assert type(model).__mro__.count(PlannedModule) == 1
        assert type(model).__name__ == "Net"
    model(X, Y)["loss"].backward()
    twin(X, Y)["loss"].backward()
    assert follower.status("").planned_calls == 1
    assert all(torch.equal(a, b) for a, b in zip(grads(model), grads(twin), strict=True))
    unplan(model)
    assert type(model) is Net
    assert set(vars(model)) == before
    model(X, Y)
    assert follower.status("").planned_calls == 1
    unplan(model)  # nothing to undo


def test_a_forward_put_around_a_planned_one_stays_around_it_in_copies() -> None:
    model = Net()
    plan_in_place(model, follower_of(planned(model, X, Y)))
    model.forward = Wrapped(model.forward)
    modules = [model, pickle.loads(pickle.dumps(model))]
    model._original_forward = model.forward.forward  # a method of its own among its attributes
    for module in (*modules, copy.deepcopy(model)):
        calls = module.forward.calls
        module(X, Y)["loss"].backward()
        assert module.forward.calls == calls + 1
        assert module.forward.forward.__self__ is module
        assert follower_of(module).status("").planned_calls == 1
    assert "forward" not in vars(unplanned(model))


def test_a_model_with_a_forward_of_its_own_is_planned_in_place_with_it() -> None:
    model = Net()
    model.forward = types.MethodType(Net.forward, model)
    follower = follower_of(planned(model, X, Y))
    plan_in_place(model, follower)
    assert unplanned(model).forward.__self__ is not model
    model(X, Y)["loss"].backward()
    assert follower.status("").planned_calls == 1
    unplan(model)
    assert vars(model)["forward"].__self__ is model
