"""A module that follows a module-level plan: the same numbers, and a word where it must be said."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.block_calls import BlockCall
from pebble.errors import BudgetNotKept, PlanNotInEffect
from pebble.measure.blocks import parameters_fingerprint
from pebble.runtime import Promise
from pebble.runtime.block_follower import BlockPlan, follow


class Net(nn.Module):
    """Goes on as long as its data say."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.5)) for _ in range(3)
        )
        self.cell = nn.Sequential(nn.Linear(8, 8), nn.Sigmoid())

    def forward(self, x: torch.Tensor, times: int = 2) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        for _ in range(times):
            x = self.cell(x)
        return x


CHOSEN = (BlockCall("layers.0"), BlockCall("layers.2"), BlockCall("cell", 1))


def planned(model: nn.Module, on_mismatch: str = "error", budget: int | None = None) -> nn.Module:
    plan = BlockPlan(
        chosen=CHOSEN,
        calls={"layers.0": 1, "layers.1": 1, "layers.2": 1, "cell": 2},
        layered=True,
        shapes=((16, 8),),
        input_bytes=512,
        step_bytes=1000,
        fingerprint=parameters_fingerprint(model),
    )
    promise = Promise("cpu", torch.get_num_threads(), False, 1000, budget or 1000)
    return follow(model, plan, promise, on_mismatch)


def left_by(module: nn.Module, *args: Any) -> list[torch.Tensor]:
    torch.manual_seed(3)
    module.zero_grad()
    made = module(*args)
    made.square().sum().backward()
    return [made.detach(), *(p.grad.clone() for p in module.parameters()), torch.rand(1)]


def test_it_trains_as_the_model_does_and_counts() -> None:
    model, x = Net(), torch.randn(16, 8)
    module = planned(model)
    for args in ((x,), (x[:4],), (x, 1)):
        assert all(map(torch.equal, left_by(module, *args), left_by(model, *args)))
    with torch.no_grad():
        module(x)
    module.eval()
    module(x)
    found = pebble.status(module)
    assert (found.planned_calls, found.unplanned_calls, found.evaluation_calls) == (3, 0, 2)
    assert found.in_effect


def test_chosen_calls_run_again_and_others_do_not() -> None:
    model = Net()
    ran: list[str] = []
    for name in ("layers.0", "layers.1", "cell"):
        tanh = model.get_submodule(name)[0]
        own = tanh.forward
        tanh.forward = lambda x, name=name, own=own: (ran.append(name), own(x))[1]
    made = planned(model)(torch.randn(16, 8))
    assert ran == ["layers.0", "layers.1", "cell", "cell"]
    made.sum().backward()
    assert sorted(ran[4:]) == ["cell", "layers.0"]


def test_nothing_stays_on_the_model() -> None:
    model = Net()
    before = [dict(vars(m)) for m in model.modules()]
    module = planned(model)
    module(torch.randn(16, 8))
    with pytest.raises(RuntimeError):
        module(torch.randn(16, 7))
    assert [dict(vars(m)) for m in model.modules()] == before


def test_larger_inputs_are_refused_or_told() -> None:
    model, large = Net(), torch.randn(17, 8)
    with pytest.raises(pebble.PlanMismatch, match=r"planned with shapes \[16, 8\].*\[17, 8\]"):
        planned(model)(large)
    module = planned(model, "eager")
    with pytest.warns(BudgetNotKept, match="larger inputs"):
        found = left_by(module, large)
    assert all(map(torch.equal, found, left_by(model, large)))
    assert pebble.status(module).planned_calls == 1


def test_more_calls_than_planned_are_told_and_run_again_too() -> None:
    model, x = Net(), torch.randn(16, 8)
    module = planned(model)
    with pytest.warns(BudgetNotKept, match="'cell' 4 times in a step that was planned with 2"):
        found = left_by(module, x, 4)
    assert all(map(torch.equal, found, left_by(model, x, 4)))


def test_a_second_call_before_the_backward_is_told() -> None:
    module, x = planned(Net()), torch.randn(16, 8)
    first = module(x)
    with pytest.warns(BudgetNotKept, match="wait for their backward"):
        second = module(x)
    (first + second).sum().backward()


def test_a_second_call_after_the_backward_is_not(recwarn: pytest.WarningsRecorder) -> None:
    module, x = planned(Net()), torch.randn(16, 8)
    first = module(x)
    first.sum().backward()
    module.zero_grad()
    module(x).sum().backward()
    assert not recwarn.list


def test_gradients_that_are_there_are_told() -> None:
    module, x = planned(Net()), torch.randn(16, 8)
    module(x).sum().backward()
    with pytest.warns(BudgetNotKept, match="gradients"):
        module(x)


def test_hooks_that_would_see_a_call_twice_are_refused_or_run_without_the_plan() -> None:
    model, x = Net(), torch.randn(16, 8)
    model.layers[0][0].register_forward_hook(lambda *call: None)
    with pytest.raises(pebble.PlanMismatch, match=r"'layers\.0' has hooks"):
        planned(model)(x)
    module = planned(model, "eager")
    with pytest.warns(PlanNotInEffect, match="hooks"):
        module(x)
    assert pebble.status(module).unplanned_calls == 1


def test_a_part_that_is_called_past_the_forward_is_told() -> None:
    module = planned(Net())
    with pytest.warns(PlanNotInEffect, match="not through the forward"):
        module.layers[0](torch.randn(16, 8))


def test_another_model_is_refused() -> None:
    with pytest.raises(pebble.PlanMismatch, match="other parameters"):
        follow(nn.Linear(2, 2), _plan_of(planned(Net())), Promise("cpu", 1, False), "error")


def _plan_of(module: nn.Module) -> BlockPlan:
    plan: BlockPlan = vars(module)["_pebble_follower"].plan
    return plan


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_follow_the_plan_and_count_anew(copied: Any) -> None:
    module, x = planned(Net()), torch.randn(16, 8)
    left_by(module, x)
    twin = copied(module)
    assert all(map(torch.equal, left_by(twin, x), left_by(module, x)))
    assert pebble.status(twin).planned_calls == 1
    assert pebble.status(module).planned_calls == 2
