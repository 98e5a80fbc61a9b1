"""`check=` of `optimize`: a plan that is not eager's is never handed over, and never trains."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pebble
from pebble.measure.step import trace_step
from pebble.plan.optimization import plan_step
from pebble.runtime import step_check
from pebble.runtime.planned_step import PlannedStep
from pebble.verdict import Checked

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3))


class Language(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(40, 8), nn.Linear(8, 40)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        logits = self.head(self.embed(words).tanh())
        return F.cross_entropy(logits.flatten(0, 1), words.flatten())


X = torch.randn(16, 6)


def planned(**options: Any) -> pebble.Plan:
    options = {"budget_gb": 1, "solver": "keep_all", "costs": "flops", "time_limit": 600} | options
    return pebble.optimize(net(), X, **options)


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every planned step hands over something else than eager."""
    call = PlannedStep.__call__
    monkeypatch.setattr(PlannedStep, "__call__", lambda self, t: call(self, t) * 1.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is short enough to be compared at once, however busy the machine is."""
    monkeypatch.setattr(step_check, "SECONDS", 1e6)


@pytest.fixture
def slow(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No step is short enough to be compared at once."""
    monkeypatch.setattr(step_check, "SECONDS", 0.0)


@pytest.mark.usefixtures("wrong")
@pytest.mark.parametrize("check", [None, True])
def test_a_wrong_plan_is_not_handed_over(check: bool | None) -> None:
    with pytest.raises(pebble.PlanIsWrong, match="output 'output' is off by 0.01") as error:
        planned(check=check)
    assert error.value.relative == pytest.approx(0.01, rel=1e-3)
    assert planned(check=False).checked.state is Checked.OFF


def test_a_short_step_is_compared_at_once() -> None:
    plan = planned()
    assert plan.checked.state is Checked.EQUAL
    module = plan.apply(plan.step.model)
    assert pebble.status(module).checked == "equal"
    assert pebble.status(planned(check=False).apply(net())).checked == "off"


@pytest.mark.usefixtures("slow")
def test_a_long_step_is_compared_at_its_first_call_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, runs = planned(), []
    assert plan.checked.state is Checked.DUE
    results = step_check.results
    monkeypatch.setattr(step_check, "results", lambda bench: runs.append(1) or results(bench))
    model = plan.step.model
    module, eager = plan.apply(model), copy.deepcopy(model)
    assert pebble.status(module).checked == "due at the first planned call"
    for _ in range(2):
        model.zero_grad()
        eager.zero_grad()
        torch.manual_seed(3)
        module(X).square().sum().backward()
        torch.manual_seed(3)
        eager(X).square().sum().backward()
    assert len(runs) == 1
    assert pebble.status(module).checked == "equal"
    assert pebble.status(module).planned_calls == 2
    for a, b in zip(model.parameters(), eager.parameters()):
        assert torch.equal(a.grad, b.grad)
    assert torch.equal(model[1].running_mean, eager[1].running_mean)
    assert planned(check=True).checked.state is Checked.EQUAL, "as long as it takes"


@pytest.mark.usefixtures("slow", "wrong")
def test_a_wrong_plan_raises_at_its_first_call_and_at_every_other() -> None:
    plan = planned()
    model = plan.step.model
    module, before = plan.apply(model), copy.deepcopy(model.state_dict())
    for _ in range(2):
        with pytest.raises(pebble.PlanIsWrong):
            module(X)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert pebble.status(module).planned_calls == 0


@pytest.mark.usefixtures("slow")
def test_an_eager_step_above_the_budget_is_skipped_and_told() -> None:
    free = planned()
    plan = planned(budget_gb=None, budget_bytes=free.peak_bytes)
    module = plan.apply(plan.step.model)
    module(X).sum().backward()
    assert pebble.status(module).checked.startswith("skipped: an eager step beside it needs")
    assert "compared with eager: skipped" in str(pebble.status(module))


@pytest.mark.usefixtures("slow")
def test_copies_and_pickles_of_a_module_are_compared_as_well() -> None:
    plan = planned()
    module = plan.apply(plan.step.model)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert pebble.status(other).checked == "due at the first planned call"
        other(X).sum().backward()
        assert pebble.status(other).checked == "equal"


def test_a_plan_from_a_file_or_for_another_model_is_compared_at_its_first_call(
    tmp_path: Path,
) -> None:
    plan = planned()
    plan.save(tmp_path / "plan.json")
    for known in (pebble.load_plan(tmp_path / "plan.json"), plan):
        module = known.apply(net())
        assert pebble.status(module).checked == "due at the first planned call"
        module(X).sum().backward()
        assert pebble.status(module).checked == "equal"


def test_a_plan_on_fake_tensors_is_compared_when_it_is_real() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        model, x = net(), torch.randn(16, 6)
    options: dict[str, Any] = {"budget_gb": 1, "solver": "keep_all"}
    assert pebble.optimize(model, x, **options).checked.state is Checked.DUE
    with pytest.raises(pebble.InvalidArgument, match="made on fake tensors cannot be compared"):
        pebble.optimize(model, x, check=True, **options)


def test_accumulated_gradients_and_a_loss_in_chunks_are_compared() -> None:
    assert planned(accumulation_steps=3).checked.state is Checked.EQUAL
    words = torch.randint(0, 40, (3, 8))
    plan = pebble.optimize(
        Language(), (words,), budget_gb=1, solver="keep_all", chunked_loss=4, check=True
    )
    assert plan.chunks == 4
    assert plan.checked.state is Checked.ROUNDED


def test_parts_that_plan_many_steps_compare_none() -> None:
    assert plan_step(trace_step(net(), X), 10**9, solver="keep_all").checked.state is Checked.OFF
    with pytest.raises(pebble.InvalidArgument, match="check is 'yes'; choose one of"):
        planned(check="yes")
