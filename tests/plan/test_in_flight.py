"""Several calls before the first backward: counted when planned, and within the budget when run."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import BudgetNotKept
from pebble.measure.allocator import trace_memory
from pebble.measure.step import WAITING
from pebble.tracing.torch_private.storages import storage_bytes

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")

VIEWS = [torch.randn(128, 16) for _ in range(3)]


def encoder(layers: int = 5) -> nn.Module:
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Linear(16, 16), nn.Tanh(), nn.Dropout(0.1)]
    return nn.Sequential(*parts)


def step(module: Any, calls: int) -> None:
    """One backward for so many calls."""
    module.zero_grad(set_to_none=True)
    torch.manual_seed(1)
    agreement = module(VIEWS[0])
    for view in VIEWS[1:calls]:
        agreement = agreement * module(view)
    agreement.sum().backward()


def measured(module: Any, model: nn.Module, calls: int) -> int:
    step(module, calls)
    module.zero_grad(set_to_none=True)
    return trace_memory(lambda: step(module, calls)).peak + standing(model, calls)


def standing(model: nn.Module, calls: int) -> int:
    return storage_bytes([*model.parameters(), *VIEWS[:calls]])


def plan_for(model: nn.Module, budget_bytes: int, **options: Any) -> pebble.Plan:
    asked: dict[str, Any] = {"optimizer": None, "costs": "flops", "time_limit": 2, "check": False}
    return pebble.optimize(model, VIEWS[0], budget_bytes=budget_bytes, **asked | options)


def kept_whole(calls: int) -> int:
    """What eager needs: predicted with everything kept."""
    model = encoder()
    return plan_for(model, 10**9, solver="keep_all", calls_in_flight=calls).peak_bytes


@pytest.mark.parametrize("calls", [2, 3])
def test_what_the_calls_need_is_predicted(calls: int) -> None:
    model = encoder()
    eager = copy.deepcopy(model)
    plan = plan_for(model, 10**9, solver="keep_all", calls_in_flight=calls)
    peak = measured(plan.apply(model), model, calls)
    assert 0.9 * plan.peak_bytes <= peak <= plan.peak_bytes
    step(eager, calls)
    for mine, wanted in zip(model.parameters(), eager.parameters(), strict=True):
        assert torch.allclose(mine.grad, wanted.grad, rtol=1e-5, atol=1e-6)


def test_the_calls_keep_the_budget_and_nothing_is_said() -> None:
    model, fixed = encoder(), standing(encoder(), 2)
    budget = fixed + int(0.7 * (kept_whole(2) - fixed))
    plan = plan_for(model, budget, calls_in_flight=2)
    assert plan.overhead > 0
    module = plan.apply(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error", BudgetNotKept)
        assert measured(module, model, 2) <= plan.peak_bytes <= budget
    alone = plan_for(encoder(), budget)
    with pytest.warns(BudgetNotKept, match="calls_in_flight=2"):
        step(alone.apply(encoder()), 2)


def test_one_more_call_than_planned_is_told() -> None:
    model = encoder()
    plan = plan_for(model, kept_whole(2), solver="keep_all", calls_in_flight=2)
    module = plan.apply(model)
    with pytest.warns(BudgetNotKept, match="calls_in_flight=3"):
        step(module, 3)


def test_a_budget_too_small_says_what_would_do() -> None:
    with pytest.raises(pebble.InfeasibleBudget, match="keeps 4 calls in flight within") as error:
        plan_for(encoder(), standing(encoder(), 1) + 75_000, calls_in_flight=4)
    least = error.value.least_bytes
    assert plan_for(encoder(), least, calls_in_flight=4).peak_bytes <= least


def test_it_is_kept_in_a_file_and_counted_again(tmp_path: Path) -> None:
    model = encoder()
    plan = plan_for(model, kept_whole(2) - 40_000, calls_in_flight=2)
    plan.save(tmp_path / "plan.json")
    loaded = pebble.load_plan(tmp_path / "plan.json")
    assert loaded.resident.kinds[WAITING] == plan.resident.kinds[WAITING] > 0
    assert loaded.on(loaded.step_of(encoder(), VIEWS[0])).peak_bytes == plan.peak_bytes
    assert plan.validate(repeats=1).ok


def test_a_budgeted_module_counts_them_as_well() -> None:
    model, fixed = encoder(), standing(encoder(), 2)
    budget = fixed + int(0.7 * (kept_whole(2) - fixed))
    module = pebble.budgeted(
        model, budget_bytes=budget, optimizer=None, costs="flops", calls_in_flight=2, display=False
    )
    assert measured(module, model, 2) <= budget


@pytest.mark.parametrize("calls", [0, 1.5, "2"])
def test_calls_are_a_positive_whole_number(calls: Any) -> None:
    with pytest.raises(pebble.InvalidArgument, match="calls_in_flight"):
        plan_for(encoder(), 10**9, calls_in_flight=calls)
