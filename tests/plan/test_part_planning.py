"""What a loop calls inside a planned module, past its forward, follows a plan within the budget."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.measure.allocator import trace_memory
from pebble.plan.part_planning import rest_bytes
from pebble.tracing.torch_private.storages import storage_bytes

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")

X = torch.randn(128, 32)


class Trainer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Dropout(0.1)) for _ in range(5)]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(32, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x)).square().mean()

    def training_step(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x)).square().mean()


LOOPS: dict[str, Callable[[Any], torch.Tensor]] = {
    "another method": lambda module: module.training_step(X),
    "a part": lambda module: module.body(X).square().mean(),
    "a part deep inside": lambda module: module.body[3](X).square().mean(),
}


def planned(model: nn.Module, share: float = 0.8, **options: Any) -> Any:
    asked: dict[str, Any] = {"optimizer": None, "costs": "flops", "time_limit": 1, "check": False}
    free = pebble.optimize(model, X, budget_gb=1, solver="keep_all", **asked).peak_bytes
    fixed = standing(model)
    budget = int(fixed + share * (free - fixed))
    plan = pebble.optimize(model, X, budget_bytes=budget, solver="greedy", **asked)
    return plan.apply(model, **options), budget


def standing(model: nn.Module) -> int:
    return storage_bytes([*model.parameters(), *model.buffers(), X])


def step(module: nn.Module, loop: Callable[[Any], torch.Tensor]) -> None:
    module.zero_grad(set_to_none=True)
    torch.manual_seed(1)
    loop(module).backward()


@pytest.mark.parametrize(
    "loop",
    [
        pytest.param("another method", marks=pytest.mark.slow),
        pytest.param("a part", marks=pytest.mark.slow),
        "a part deep inside",
    ],
)
def test_the_second_call_of_a_part_keeps_the_budget_and_is_eager_s(loop: str) -> None:
    model = Trainer()
    eager = copy.deepcopy(model)
    module, budget = planned(model)
    with pytest.warns(pebble.PlanNotInEffect, match="takes a plan of its own"):
        step(module, LOOPS[loop])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(module, LOOPS[loop])  # here it is planned
    module.zero_grad(set_to_none=True)
    peak = trace_memory(lambda: step(module, LOOPS[loop])).peak + standing(model)
    assert peak <= budget
    step(eager, LOOPS[loop])
    for mine, wanted in zip(model.parameters(), eager.parameters(), strict=True):
        assert (mine.grad is None) is (wanted.grad is None)
        assert wanted.grad is None or torch.equal(mine.grad, wanted.grad)
    found = pebble.status(module)
    assert (found.planned_calls >= 2, found.plans_made >= 1) == (True, True)


def test_parts_are_what_they_were_when_the_module_itself_is_called() -> None:
    model = Trainer()
    module, _ = planned(model)
    with pytest.warns(pebble.PlanNotInEffect):
        step(module, LOOPS["a part"])
    step(module, LOOPS["a part"])
    assert type(model.body) is not nn.Sequential, "it follows a plan"
    for twin in (copy.deepcopy(model.body), pickle.loads(pickle.dumps(model.body))):
        assert type(twin) is nn.Sequential, "which no copy does"
    step(module, lambda m: m(X))
    assert type(model.body) is nn.Sequential
    again, _ = planned(model)
    step(again, lambda m: m(X))
    assert pebble.status(again).in_effect


def test_a_part_that_cannot_be_planned_runs_and_is_told() -> None:
    model = Trainer()
    module, _ = planned(model)
    with pytest.warns(pebble.PlanNotInEffect):
        step(module, LOOPS["a part"])
    model.body[0].append(nn.LSTM(32, 32))  # returns a tuple: the part itself fails, not the plan
    model.body[0][-1].register_forward_hook(lambda _, given, out: out[0])
    with pytest.warns(pebble.PlanNotInEffect, match="runs without a plan"):
        step(module, LOOPS["a part"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(module, LOOPS["a part"])
    assert pebble.status(module).unplanned_calls == 3


def test_with_eager_as_the_answer_parts_run_without_a_plan() -> None:
    module, _ = planned(Trainer(), on_mismatch="eager")
    with pytest.warns(pebble.PlanNotInEffect):
        step(module, LOOPS["a part"])
    step(module, LOOPS["a part"])
    assert pebble.status(module).unplanned_calls == 2


def test_what_stands_beside_a_part() -> None:
    model = Trainer()
    head = 4 * (32 * 2 + 2)
    everything = 4 * sum(p.numel() for p in model.parameters())
    beside = rest_bytes(model, model.body, None)
    assert beside == 2 * head, "its parameters and their gradients"
    with_momentum = rest_bytes(model, model.body, "momentum")
    assert with_momentum - beside == everything
