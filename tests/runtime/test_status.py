"""What a planned module says of itself: calls by the plan, calls past it, and why."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import InvalidArgument
from tests.runtime.following import Net, X, Y, planned

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def test_it_counts_training_calls_and_evaluation_calls() -> None:
    module = planned(Net(), X, Y)
    assert not pebble.status(module).in_effect, "not called yet"
    module(X, Y)["loss"].backward()
    with torch.no_grad():
        module(X, Y)
    module.eval()
    module(X)
    found = pebble.status(module)
    assert (found.planned_calls, found.unplanned_calls, found.evaluation_calls) == (1, 0, 2)
    assert found.in_effect
    assert found.reasons == {}
    assert found.measured_peak_bytes is None


def test_a_plan_says_what_it_predicted() -> None:
    model = nn.Linear(4, 2)
    plan = pebble.optimize(model, torch.ones(3, 4), budget_gb=1, solver="keep_all")
    found = pebble.status(plan.apply(model))
    assert found.predicted_peak_bytes == plan.peak_bytes
    assert str(found).startswith("plan of Linear: 0 calls planned, 0 un-planned")


def test_the_module_s_repr_says_it_too() -> None:
    module = planned(nn.Linear(6, 3), X)
    module(X).sum().backward()
    assert repr(module) == (
        "Linear(in_features=6, out_features=3, bias=True, "
        "plan: 1 calls planned, 0 un-planned, 0 in evaluation)"
    )
    assert repr(nn.Linear(6, 3)) == "Linear(in_features=6, out_features=3, bias=True)"


def test_reasons_are_counted_by_what_was_planned() -> None:
    module = planned(nn.Linear(6, 3), X, on_mismatch="eager")
    with pytest.warns(pebble.PlanNotInEffect) as told:
        for rows in (2, 3, 4):
            module(X[:rows]).sum().backward()
        module.weight.requires_grad_(False)
        module(X).sum().backward()
    found = pebble.status(module)
    assert found.unplanned_calls == 4
    assert sorted(found.reasons.values()) == [1, 3], "three shapes are one reason"
    assert "3 un-planned: 'args[0]' was planned with shape [5, 6]" in str(found)
    assert len(told) == 2


def test_copies_count_their_own_calls() -> None:
    module = planned(nn.Linear(6, 3), X)
    module(X).sum().backward()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert pebble.status(twin).planned_calls == 0
        twin(X).sum().backward()
        assert pebble.status(twin).planned_calls == 1
    assert pebble.status(module).planned_calls == 1


def test_a_wrapper_has_the_status_of_its_one_planned_part() -> None:
    module = planned(nn.Linear(6, 3), X)
    wrapper = nn.Sequential(module, nn.ReLU())
    wrapper(X).sum().backward()
    assert pebble.status(wrapper).planned_calls == 1


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.Linear(6, 3), "follows no plan"),
        (lambda: "a plan", "not a str"),
        (
            lambda: nn.Sequential(planned(nn.Linear(6, 3), X), planned(nn.Linear(6, 3), X)),
            r"several planned modules \(0, 1\)",
        ),
    ],
)
def test_it_says_what_it_takes(make, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        pebble.status(make())
