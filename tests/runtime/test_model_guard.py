"""A planned module whose weights, submodules or hooks change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pebble.errors import PlanMismatch
from pebble.runtime import build
from pebble.schedule import Schedule
from pebble.tracing import capture
from tests.runtime.following import Net, X, Y, equal, grads, planned

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def test_a_replaced_parameter_is_honoured() -> None:
    model = Net()
    module = planned(model, X, Y)
    model.head.weight = nn.Parameter(torch.zeros(3, 8))
    module.head.bias = nn.Parameter(torch.zeros(3))
    assert not module(X, Y)["logits"].any()
    module.load_state_dict({k: v.clone() for k, v in Net().state_dict().items()}, assign=True)
    assert module(X, Y)["logits"].any()
    module(X, Y)["loss"].backward()
    assert module.head.weight.grad is not None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m.double(), "float32.*float64"),
        (lambda m: m.half(), "float32.*float16"),
        (lambda m: m.head.weight.requires_grad_(False), "requires_grad=True"),
        (lambda m: setattr(m.head, "weight", nn.Parameter(torch.zeros(4, 8))), "shape"),
        (lambda m: setattr(m, "head", nn.Identity()), "head.*Linear.*Identity"),
        (lambda m: delattr(m, "head"), "head.*gone"),
        (lambda m: setattr(m.dropout, "p", 0.25), "'p' of 'dropout'"),
        (lambda m: m.head.register_forward_hook(lambda *a: None), "head.*hook"),
        (lambda m: m.head.register_full_backward_hook(lambda *a: None), "head.*hook"),
        (lambda m: m.inner[0].register_forward_pre_hook(lambda *a: None), "inner.0.*hook"),
    ],
)
def test_a_changed_model_is_a_mismatch(change: Callable[[nn.Module], Any], text: str) -> None:
    module = planned(Net(), X, Y)
    change(module)
    with pytest.raises(PlanMismatch, match=text):
        module(X, Y)


def test_a_hook_that_was_there_before_is_refused_at_once() -> None:
    model = Net()
    captured = capture(model, (X, Y))
    model.head.register_forward_hook(lambda *a: None)
    with pytest.raises(PlanMismatch, match="head.*hook"):
        build(model, captured, Schedule.keep_all(captured.graph))
    build(model, captured, Schedule.keep_all(captured.graph), on_mismatch="eager")


def test_hooks_on_the_whole_model_and_on_parameters_run() -> None:
    module = planned(Net(), X, Y)
    seen = []
    module.register_forward_hook(lambda m, a, out: seen.append("forward"))
    module.head.weight.register_hook(lambda g: seen.append("gradient"))
    module.head.bias.register_post_accumulate_grad_hook(lambda p: seen.append("accumulated"))
    module(X, Y)["loss"].backward()
    assert sorted(seen) == ["accumulated", "forward", "gradient"]


def test_hooks_on_the_whole_model_run_around_the_planned_step_and_not_in_it() -> None:
    model = Net()
    model.register_forward_pre_hook(lambda m, given: (given[0] * 3, *given[1:]))
    model.register_forward_hook(lambda m, given, out: {**out, "loss": out["loss"] * 2})
    expected = model(X, Y)["loss"]
    expected.backward()
    wanted = grads(model)
    model.zero_grad()
    found = planned(model, X, Y)(X, Y)["loss"]
    found.backward()
    assert torch.equal(found, expected)
    assert equal(grads(model), wanted)
    assert len(model._forward_hooks) == len(model._forward_pre_hooks) == 1


def test_weight_norm_is_part_of_the_graph() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 3)))
    module = planned(model, X)
    module(X).square().sum().backward()
    found = grads(model)
    model.zero_grad()
    model(X).square().sum().backward()
    assert all(torch.allclose(a, b) for a, b in zip(found, grads(model), strict=True))


def test_tied_weights_have_one_gradient_and_must_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(self.head(self.embed(ids)), ids)

    ids = torch.tensor([1, 2, 3])
    model = Tied()
    module = planned(model, ids)
    module(ids).backward()
    found = grads(model)
    model.zero_grad()
    model(ids).backward()
    assert len(found) == 1
    assert torch.allclose(found[0], model.embed.weight.grad)
    module.head.weight = nn.Parameter(torch.zeros(7, 4))
    with pytest.raises(PlanMismatch, match="one tensor"):
        module(ids)
