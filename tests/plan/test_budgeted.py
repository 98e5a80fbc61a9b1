"""One budget for batches of any shape: every step planned, within it, and equal to eager's."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import InfeasibleBudget, InvalidArgument, PlanMismatch, UnknownSolver
from pebble.runtime import PlannedModule
from pebble.runtime.follower import follower_of
from pebble.runtime.planned_step import PlannedStep
from tests.plan.training import Reader, epoch, sentences

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")

X = torch.ones(6, 8)


class Small(nn.Module):
    """Cheap to trace; a number of its own and one of the call are constants of its graph."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.drop = nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.3)

    def forward(self, x: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
        return (self.drop(self.norm(self.layer(x))).relu() * factor).square().mean()


def small(**options: Any) -> nn.Module:
    return pebble.budgeted(Small(), **{"budget_gb": 1, "display": False} | options)


def sources(module: nn.Module) -> dict[str, int]:
    planner: Any = follower_of(module).planner  # type: ignore[attr-defined]
    return {source.name: n for source, n in planner.sources.items()}


def train(module: nn.Module, *args: Any, **kwargs: Any) -> None:
    module(*args, **kwargs).backward()
    module.zero_grad()


@pytest.mark.slow
def test_an_epoch_of_any_lengths_is_that_of_the_unplanned_loop() -> None:
    model = Reader()
    twin = copy.deepcopy(model)
    batches = list(sentences(96, 80, 40, 33, 60, 64, 50, 32, 47, 90))
    module = pebble.budgeted(model, budget_bytes=1_200_000, accumulation_steps=2, display=False)
    expected = epoch(twin, batches, accumulate=2)
    assert expected.equals(epoch(module, batches, accumulate=2))
    found = pebble.status(module)
    assert (found.planned_calls, found.unplanned_calls, found.plans_made) == (3, 0, 3)
    assert found.evaluation_calls == 1
    assert found.predicted_peak_bytes is not None
    assert 1_000_000 < found.predicted_peak_bytes <= 1_200_000
    again = copy.deepcopy(twin)  # the same batches, and every step measured
    measured = pebble.budgeted(again, budget_bytes=1_200_000, accumulation_steps=2, display=False)
    run = epoch(measured, batches, accumulate=2, measured=True)
    assert all(peak <= 1_200_000 for peak in run.peaks)
    assert max(run.peaks) > 1_000_000


def test_a_last_batch_and_an_evaluation_in_between_leave_no_trace() -> None:
    model = Small()
    twin = copy.deepcopy(model)
    module = pebble.budgeted(model, budget_gb=1, optimizer="sgd", display=False)
    states = []
    for net in (module, twin):
        torch.manual_seed(3)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for rows in (6, 6, 3):
            loss = net(torch.linspace(-1, 1, rows * 8).reshape(rows, 8))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            net.eval()
            net(X[:rows])
            net.train()
        states.append([loss, torch.get_rng_state(), *net.state_dict().values()])
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    found = pebble.status(module)
    assert (found.planned_calls, found.evaluation_calls) == (3, 3)
    assert (found.members, found.plans_made, found.unplanned_calls) == (2, 2, 0)
    assert found.planning_seconds > 0
    assert "2 plans made by calls" in str(found)


def test_it_is_the_model() -> None:
    model = Small()
    module = pebble.budgeted(model, budget_gb=1)
    assert isinstance(module, Small)
    assert isinstance(module, PlannedModule)
    assert list(module.state_dict()) == list(model.state_dict())
    assert all(a is b for a, b in zip(module.parameters(), model.parameters(), strict=True))
    assert pebble.status(module).members == 0
    assert not pebble.status(module).in_effect
    with torch.no_grad():
        module(X)
    assert pebble.status(module).evaluation_calls == 1
    assert pebble.status(module).plans_made == 0


def test_one_shape_is_planned_once_however_it_is_passed() -> None:
    module = small()
    train(module, X)
    train(module, torch.zeros(6, 8))
    train(module, x=X)
    train(module, x=X)
    train(module, X, 1.0)
    assert pebble.status(module).planned_calls == 5
    assert pebble.status(module).plans_made == 1


def test_another_setting_is_another_plan_and_the_old_one_is_kept() -> None:
    module = small()
    for p in (0.3, 0.5, 0.3, 0.5):
        module.drop.p = p
        train(module, X)
    module.layer.weight.requires_grad_(False)
    train(module, X)
    assert module.layer.weight.grad is None
    assert pebble.status(module).plans_made == 3
    assert pebble.status(module).planned_calls == 5


def test_a_value_that_changes_with_every_call_is_named() -> None:
    module = small()
    with pytest.raises(PlanMismatch, match=r"'factor'.* has changed 3 times before"):
        for i in range(9):
            train(module, X, factor=float(i))
    assert pebble.status(module).plans_made == 4


def test_a_forward_that_is_replaced_is_planned_again() -> None:
    module = small()
    train(module, X)
    kept = Small.forward
    try:
        Small.forward = lambda self, x: self.layer(x).sum()  # type: ignore[method-assign]
        module(X).backward()
        assert module.layer.bias.grad is not None
        assert torch.equal(module.layer.bias.grad, torch.full((8,), 6.0))
    finally:
        Small.forward = kept  # type: ignore[method-assign]
    assert pebble.status(module).plans_made == 2


def test_what_does_not_fit_is_named_and_the_rest_goes_on() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    module = pebble.budgeted(model, budget_bytes=9000, display=False, time_limit=1)
    module(X).sum().backward()
    with pytest.raises(InfeasibleBudget, match=r"args\[0\] \[600, 8\]: 9.00 kB is below") as raised:
        module(torch.ones(600, 8))
    assert raised.value.least_bytes is not None
    assert raised.value.least_bytes > raised.value.budget_bytes == 9000  # type: ignore[operator]
    model.zero_grad()
    module(X).sum().backward()
    assert pebble.status(module).planned_calls == 2


def test_a_cache_saves_the_solver_as_another_shape_does(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Dropout(0.2)) for _ in range(3)]
    model, x = nn.Sequential(*layers), torch.ones(64, 16)
    options = {"budget_bytes": 52_000, "cache": tmp_path / "plans", "time_limit": 1}
    first = pebble.budgeted(model, display=False, **options)
    first(x).sum().backward()
    (file,) = (tmp_path / "plans").iterdir()
    assert pebble.load_plan(file).peak_bytes == pebble.status(first).predicted_peak_bytes

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a solver was called")

    monkeypatch.setattr("pebble.plan.search.PlanSearch.find", refuse)
    monkeypatch.setattr("pebble.plan.replanning._GOOD", 1.0)
    model.zero_grad()
    first(x[:63]).sum().backward()
    assert sources(first) == {"SOLVED": 1, "KNOWN": 1}
    model.zero_grad()
    second = pebble.budgeted(model, display=False, **options)
    second(x).sum().backward()
    assert pebble.status(second).predicted_peak_bytes == pebble.load_plan(file).peak_bytes
    model.zero_grad()
    second(x[:9]).sum().backward()
    assert sources(second) == {"STORED": 1, "KEEP_ALL": 1}
    file.write_text("{")
    third = pebble.budgeted(model, display=False, **options)
    with pytest.raises(AssertionError, match="a solver was called"):
        third(x)


def test_what_a_card_reserves_counts_where_that_is_asked_for() -> None:
    model, two_megabytes = nn.Linear(8, 8), 2 * 2**20
    reserved = {"budget_kind": "reserved", "optimizer": None, "display": False, "time_limit": 1}
    module = pebble.budgeted(model, budget_bytes=two_megabytes, **reserved)
    module(X).sum().backward()
    assert sources(module) == {"KEEP_ALL": 1}
    module = pebble.budgeted(model, budget_bytes=two_megabytes - 1, **reserved)
    with pytest.raises(InfeasibleBudget, match=r"args\[0\] \[6, 8\].* what a card reserves"):
        module(X)


def test_copies_share_plans_and_make_their_own() -> None:
    module = small()
    train(module, X)
    twin = copy.deepcopy(module)
    train(twin, X)
    train(twin, X[:2])
    assert (pebble.status(twin).planned_calls, pebble.status(twin).plans_made) == (2, 1)
    assert (pebble.status(module).members, pebble.status(twin).members) == (1, 2)
    loaded = pickle.loads(pickle.dumps(twin))
    train(loaded, X)
    train(loaded, X[:3])
    assert (pebble.status(loaded).planned_calls, pebble.status(loaded).plans_made) == (2, 1)


def test_copies_count_the_optimizer_of_their_own_parameters() -> None:
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    module = pebble.budgeted(model, budget_gb=1, optimizer=optimizer, display=False)
    train(module, X)
    model(X).backward()
    optimizer.step()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        train(twin, X[:4])
        planner: Any = follower_of(twin).planner  # type: ignore[attr-defined]
        own = planner.asked.step.optimizer
        assert not own.state
        assert own.param_groups[0]["params"][0] is twin.layer.weight
    assert optimizer.state


def test_calls_of_two_shapes_in_flight_are_told() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    module = pebble.budgeted(model, budget_bytes=1200, optimizer=None, display=False)
    for rows in (6, 4):
        module(X[:rows]).sum().backward()
        module.zero_grad()
    with pytest.warns(pebble.BudgetNotKept, match="1 of its calls wait"):
        loss = module(X).sum() + module(X[:4]).sum()
    loss.backward()


def test_a_plan_to_begin_with_is_the_first_of_them() -> None:
    model = Small()
    plan = pebble.optimize(model, X, budget_gb=1)
    module = plan.apply(model, on_mismatch="replan")
    train(module, X)
    assert pebble.status(module).plans_made == 0
    train(module, X[:3])
    train(module, X)
    found = pebble.status(module)
    assert (found.planned_calls, found.plans_made, found.members) == (3, 1, 2)
    with pytest.raises(InvalidArgument, match="'error', 'eager', 'replan'"):
        plan.apply(model, on_mismatch="again")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, InvalidArgument, "Pass one of budget_gb"),
        ({"budget_gb": 1, "budget_bytes": 1}, InvalidArgument, "Pass one of budget_gb"),
        ({"budget_gb": 1, "batch_size": 4}, InvalidArgument, "takes no batch_size"),
        ({"budget_gb": 1, "swap": True}, InvalidArgument, "has no option 'swap'"),
        ({"budget_gb": 1, "solvr": "ilp"}, InvalidArgument, "did you mean .solver."),
        ({"budget_gb": 1, "solver": "magic"}, UnknownSolver, "magic"),
        ({"budget_gb": 1, "optimizer": "magic"}, InvalidArgument, "'magic' is not known"),
        ({"budget_gb": 1, "costs": "roofline:abacus"}, InvalidArgument, "abacus"),
        ({"budget_gb": 1, "time_limit": 0}, InvalidArgument, "time limit"),
        ({"budget_gb": 1, "loss": 3}, InvalidArgument, "loss is 3"),
        ({"budget_gb": 1, "loss": sum, "outputs": "loss"}, InvalidArgument, "outputs='loss'"),
        ({"budget_gb": 1, "accumulation_steps": 0}, InvalidArgument, "accumulation_steps"),
        ({"budget_gb": 1, "cache": __file__}, InvalidArgument, "is no folder"),
    ],
)
def test_wrong_arguments_are_told_at_once(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        pebble.budgeted(Small(), **options)


@pytest.mark.slow
def test_a_language_model_with_batches_as_mappings() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=64, n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0,
        eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).train()
    twin = copy.deepcopy(model)
    module = pebble.budgeted(model, budget_bytes=2_000_000, display=False)

    def batches() -> Iterator[dict[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for rows, length in ((4, 48), (4, 33), (2, 48)):
            ids = torch.randint(0, 64, (rows, length), generator=generator)
            mask = torch.ones_like(ids)
            yield {"input_ids": ids, "attention_mask": mask, "labels": ids}

    assert epoch(module, batches()).equals(epoch(twin, batches()))
    found = pebble.status(module)
    assert (found.planned_calls, found.unplanned_calls, found.plans_made) == (3, 0, 3)
    module.eval()
    assert module.generate(torch.tensor([[1, 2]]), max_new_tokens=3).shape == (1, 5)


@pytest.mark.parametrize("check", [None, True])
def test_every_plan_is_compared_with_eager_before_it_trains(
    check: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = PlannedStep.__call__
    rows = {4}  # a wrong plan of this batch only

    def wrong(self: PlannedStep, tensors: list[torch.Tensor]) -> Any:
        off = 1.01 if any(len(t) in rows for t in tensors if t.dim() == 2 and len(t) < 5) else 1
        return call(self, tensors) * off

    monkeypatch.setattr(PlannedStep, "__call__", wrong)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8))
    module = pebble.budgeted(model, budget_gb=1, optimizer=None, check=check, display=False)
    module(torch.randn(3, 6)).sum().backward()
    assert pebble.status(module).checked == "equal"
    for _ in range(2):
        with pytest.raises(pebble.PlanIsWrong):
            module(torch.randn(4, 6))
    off = pebble.budgeted(model, budget_gb=1, optimizer=None, check=False, display=False)
    model.zero_grad()
    off(torch.randn(4, 6)).sum().backward()
    assert pebble.status(off).checked == "off"
