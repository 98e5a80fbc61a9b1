"""A model is traced once more when a second shape comes, and then no more while that holds."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

import pebble
from pebble.plan.families.planners import planner_of
from tests.plan.families.growing import WIDTH, WORDS, Tiny, tokens

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


class Reading(nn.Module):
    """A source and a target, each of a length of its own, and both as wide as one of them is."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        x, y = self.layer(self.words(source)).tanh(), self.words(target)
        seen = (y @ x.transpose(1, 2)).softmax(-1) @ x
        return {"loss": (seen - y).square().mean()}


def pair(rows: int, source: int, target: int) -> dict[str, torch.Tensor]:
    drawn = torch.Generator().manual_seed(rows * source + target)
    ids = [torch.randint(0, WORDS, (rows, n), generator=drawn) for n in (source, target)]
    return {"source": ids[0], "target": ids[1]}


def trained_on(calls: list[dict[str, torch.Tensor]], **options: Any) -> nn.Module:
    """A module that was called with each, every gradient eager's."""
    model = Reading()
    twin = copy.deepcopy(model)
    module = pebble.budgeted(model, budget_gb=1, optimizer=None, display=False, **options)
    for call in calls:
        assert all(map(torch.equal, gradients(module, call), gradients(twin, call)))
    return module


def test_two_lengths_are_two_symbols_also_where_they_meet() -> None:
    # equal by chance in the second call; as wide as the model in the fourth; as many as rows
    sizes = [(4, 9, 5), (4, 12, 12), (4, 7, 11), (4, WIDTH, 6), (3, 5, 3), (4, 9, 9)]
    module = trained_on([pair(*shape) for shape in sizes])
    assert planner_of(module).source.traces == 2


def test_one_sample_is_a_member_of_its_own() -> None:
    sizes = [(4, 9, 5), (1, 12, 7), (4, 7, 11), (1, 6, 10), (1, 9, 3), (2, 8, 4)]
    module = trained_on([pair(*shape) for shape in sizes])
    assert planner_of(module).source.traces == 3, "one call, one sample, several samples"


def test_sizes_that_are_told_to_vary_take_one_trace() -> None:
    batch, source, target = Dim("batch"), Dim("source", min=2, max=64), Dim("target")
    told = {"source": {0: batch, 1: source}, "target": {0: batch, 1: target}}
    sizes = [(4, 9, 9), (4, 12, 7), (3, 7, 11), (4, WIDTH, 6)]
    module = trained_on([pair(*shape) for shape in sizes], dynamic_shapes=told)
    assert planner_of(module).source.traces == 1
    twin = copy.deepcopy(module)
    assert planner_of(twin).source.dynamic == planner_of(module).source.dynamic


def test_what_is_told_not_to_vary_is_traced_anew() -> None:
    told = {"source": {1: Dim.AUTO}}
    module = trained_on([pair(*s) for s in [(4, 9, 5), (4, 12, 5), (3, 7, 5)]], dynamic_shapes=told)
    assert planner_of(module).source.traces == 2
