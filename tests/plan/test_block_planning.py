"""A module that plans by itself plans calls without a graph module by module."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.runtime.block_follower import BlockFollower
from pebble.runtime.follower import follower_of
from pebble.runtime.replanning_follower import ReplanningFollower
from tests.plan.ungraphed import EarlyExit, Residual, example, loss

BUDGET = 200_000
ASKED: Any = {"budget_bytes": BUDGET, "optimizer": None, "display": False}


def follower(planned: nn.Module) -> ReplanningFollower:
    found = follower_of(planned)
    assert isinstance(found, ReplanningFollower)
    return found


def followers(planned: nn.Module) -> list[BlockFollower]:
    blocks = follower(planned).blocks
    assert blocks is not None
    return blocks.members


def batches(*sizes: int) -> list[torch.Tensor]:
    return [example().repeat(4, 1)[:rows] for rows in sizes]


def steps(model: nn.Module, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Losses and gradients; the model's inputs come from a layer before it."""
    before = nn.Linear(16, 16)
    nn.init.eye_(before.weight)
    nn.init.zeros_(before.bias)
    found = []
    for number, x in enumerate(inputs):
        torch.manual_seed(number)
        model.zero_grad()
        value = loss(model(before(x)))
        value.backward()
        found += [value.detach(), *(p.grad.clone() for p in model.parameters())]
    return [*found, before.weight.grad, *model.buffers()]


def test_every_batch_is_within_one_budget_and_eager_s() -> None:
    model, inputs = EarlyExit(), batches(48, 64, 33, 64, 7)
    wanted = steps(copy.deepcopy(model), inputs)
    planned = pebble.budgeted(model, **ASKED)
    assert all(map(torch.equal, steps(planned, inputs), wanted))
    status = pebble.status(planned)
    assert (status.planned_calls, status.unplanned_calls) == (5, 0)
    assert status.plans_made == 2, "smaller batches follow the plans of larger ones"
    assert max(p.peak_bytes for p in follower(planned).promises) <= BUDGET


@pytest.mark.filterwarnings("ignore::pebble.BudgetNotKept")
def test_a_smaller_batch_follows_the_plan_of_the_least_that_covers_it() -> None:
    planned = pebble.budgeted(EarlyExit(), **ASKED)
    outputs = [planned(x) for x in batches(32, 64, 16)]  # held: each tells whose call it was
    first, second = followers(planned)
    assert [len(member.running) for member in (first, second)] == [2, 1]
    assert len(outputs) == 3


def test_copies_plan_by_themselves() -> None:
    planned = pebble.budgeted(EarlyExit(), **ASKED)
    planned(example()).sum().backward()
    for twin in (copy.deepcopy(planned), pickle.loads(pickle.dumps(planned))):
        twin(example()).sum().backward()
        assert pebble.status(twin).plans_made == 1


def test_gradients_of_earlier_micro_batches_are_counted() -> None:
    model, x = EarlyExit(), example()
    planned = pebble.budgeted(model, **ASKED)
    for _ in range(3):
        loss(planned(x)).backward()
    assert pebble.status(planned).plans_made == 2
    (member,) = followers(planned)
    assert member.promise.accumulates


def test_a_budget_that_is_too_small_names_the_inputs_and_the_least() -> None:
    planned = pebble.budgeted(EarlyExit(), budget_bytes=30_000, optimizer=None, display=False)
    with pytest.raises(
        pebble.InfeasibleBudget, match=r"EarlyExit for args\[0\] \[64, 16\]"
    ) as told:
        planned(example())
    assert told.value.least_bytes > 30_000


def test_a_forward_with_and_without_a_graph_keeps_both_kinds_of_plans() -> None:
    class Either(EarlyExit):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if len(x) > 20 else self.head(self.layers[0](x))

    planned = pebble.budgeted(Either(), **ASKED)
    for x in batches(16, 64, 16, 64):
        planned(x).sum().backward()
        planned.zero_grad()
    status = pebble.status(planned)
    assert (status.planned_calls, status.plans_made) == (4, 2)


@pytest.mark.parametrize("option", [{"solver": "greedy"}, {"level": "graph"}])
def test_options_of_graphs_keep_the_refusal(option: dict[str, Any]) -> None:
    planned = pebble.budgeted(EarlyExit(), **ASKED, **option)
    with pytest.raises(pebble.CaptureError, match="cannot be traced into one graph"):
        planned(example())


def test_a_forward_that_was_replaced_is_planned_anew() -> None:
    model = EarlyExit([Residual() for _ in range(2)])
    planned = pebble.budgeted(model, **ASKED)
    planned(example()).sum().backward()
    planned.zero_grad()
    type(model).forward, before = (lambda self, x: self.head(x)), type(model).forward
    try:
        planned(example()).sum().backward()
    finally:
        type(model).forward = before
    assert not followers(planned)
