"""A model is traced once more when a second shape comes, and then no more while that holds."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.plan.families.planners import planner_of
from tests.plan.families.growing import Tiny, tokens

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def gradients(module: nn.Module, call: dict[str, Any]) -> list[torch.Tensor]:
    torch.manual_seed(3)
    module.zero_grad()
    module(**call)["loss"].backward()
    return [p.grad.clone() for p in module.parameters() if p.grad is not None]


def test_two_traces_serve_every_number_of_rows() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 4))
    twin = copy.deepcopy(net)
    module = pebble.budgeted(net, budget_gb=1, optimizer=None, display=False)
    for rows in (5, 8, 3, 2, 11):
        x, found = torch.randn(rows, 4), []
        for model in (module, twin):
            torch.manual_seed(1)
            model.zero_grad()
            model(x).square().sum().backward()
            found.append([p.grad for p in model.parameters() if p.grad is not None])
        assert len(found[0]) == 4 and all(map(torch.equal, *found))
    assert planner_of(module).source.traces == 2


def test_gradients_that_are_added_up_are_counted_without_a_word() -> None:
    module = pebble.budgeted(
        nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)), budget_gb=1, display=False
    )
    peaks = []
    with warnings.catch_warnings(action="error", category=pebble.BudgetNotKept):
        for _ in range(4):
            module(torch.ones(3, 16)).sum().backward()
            peaks.append(pebble.status(module).predicted_peak_bytes)
    assert pebble.status(module).plans_made == 2
    weights = sum(p.nbytes for p in module.parameters())
    assert peaks[1:] == [peaks[1]] * 3 and peaks[0] <= peaks[1] <= peaks[0] + weights
    tight = pebble.budgeted(
        nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)),
        budget_bytes=sum(p.nbytes for p in module.parameters()) * 2 + 600,
        optimizer=None,
        display=False,
    )
    tight(torch.ones(1, 16)).sum().backward()
    with pytest.warns(pebble.BudgetNotKept, match="gradients that its plan does not count"):
        tight(torch.ones(1, 16)).sum().backward()
    assert pebble.status(tight).planned_calls == 2


@pytest.mark.slow
def test_two_traces_serve_every_shape_with_eagers_bits() -> None:
    model = Tiny()
    twin = copy.deepcopy(model)
    module = pebble.budgeted(model, budget_gb=1, optimizer=None, display=False)
    for batch, length in ((4, 9), (4, 12), (4, 30), (3, 17), (4, 9)):
        call = tokens(batch, length)
        assert all(map(torch.equal, gradients(module, call), gradients(twin, call)))
    assert planner_of(module).source.traces == 2
    assert pebble.status(module).members == 4


@pytest.mark.slow
def test_what_the_model_reads_is_not_what_it_was() -> None:
    model = Tiny()
    twin = copy.deepcopy(model)
    module: Any = pebble.budgeted(model, budget_gb=1, optimizer=None, display=False)
    for length in (9, 12):
        gradients(module, tokens(4, length))
    for net in (module, twin):
        net.drop.p = 0.7
    call = tokens(4, 15)
    assert all(map(torch.equal, gradients(module, call), gradients(twin, call)))


@pytest.mark.slow
def test_copies_trace_for_themselves() -> None:
    module = pebble.budgeted(Tiny(), budget_gb=1, optimizer=None, display=False)
    for length in (9, 12):
        gradients(module, tokens(4, length))
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for p in twin.parameters():
            p.mul_(2)
    plain = Tiny()
    plain.load_state_dict(twin.state_dict())
    call = tokens(4, 15)
    assert all(map(torch.equal, gradients(twin, call), gradients(plain, call)))
