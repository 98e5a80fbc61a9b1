"""Predicted peaks are measured peaks, planned bits are un-planned bits; nothing is left behind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pebble.errors import InvalidArgument
from pebble.graph import Graph
from pebble.measure.workspaces import measure_workspaces
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.runtime.validation import ValidationOptions, validate
from pebble.runtime.validation_report import Validation
from pebble.schedule import Schedule
from pebble.solver import solve
from pebble.tracing import Captured, capture
from pebble.tracing.inputs import Inputs
from tests.runtime.schedules import everything_again, random_repeats

pytestmark = pytest.mark.usefixtures("one_thread")


def once(**options: Any) -> ValidationOptions:
    return ValidationOptions(repeats=1, **options)


class WithLoss(nn.Module):
    def __init__(self, body: nn.Module, loss: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.body, self.loss = body, loss

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.loss(self.body(x), y)


def gpt2() -> tuple[nn.Module, dict[str, Any]]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=64, n_positions=16, n_embd=32, n_layer=2, n_head=2, bos_token_id=0,
        eos_token_id=0, use_cache=False,
    )  # fmt: skip
    ids = torch.randint(0, 64, (3, 16))
    return GPT2LMHeadModel(config).train(), {"input_ids": ids, "labels": ids.clone()}


def mlp() -> tuple[nn.Module, dict[str, Any]]:
    body = nn.Sequential(
        nn.Linear(16, 64), nn.GELU(), nn.LayerNorm(64), nn.Dropout(0.2), nn.Linear(64, 4), nn.Tanh()
    )
    return WithLoss(body, F.mse_loss), {"x": torch.randn(32, 16), "y": torch.randn(32, 4)}


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = (nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2))
        self.na, self.nb = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.nb(self.b(self.relu(self.na(self.a(x))))) + x)


def resnet() -> tuple[nn.Module, dict[str, Any]]:
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), Residual(8), Residual(8),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 49, 5),
    )  # fmt: skip
    y = torch.randint(0, 5, (4,))
    return WithLoss(body, F.cross_entropy), {"x": torch.randn(4, 3, 16, 16), "y": y}


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU())
        self.middle = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.SiLU())
        self.lift = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.head = nn.Conv2d(16, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.down(x)
        return self.head(torch.cat([self.lift(self.middle(skip)), skip], 1))


def unet() -> tuple[nn.Module, dict[str, Any]]:
    x = torch.randn(2, 3, 16, 16)
    return WithLoss(UNet(), F.mse_loss), {"x": x, "y": torch.randn_like(x)}


def wide_norm() -> tuple[nn.Module, dict[str, Any]]:
    """The boundary, where updated buffers are still there, is the peak's neighbour."""
    body = nn.Sequential(nn.Linear(4, 2048), nn.BatchNorm1d(2048), nn.Linear(2048, 1))
    return WithLoss(body, F.mse_loss), {"x": torch.randn(2, 4), "y": torch.randn(2, 1)}


MODELS = {f.__name__: f for f in (gpt2, mlp, resnet, unet, wide_norm)}
HEAVY = ("unet", "wide_norm")
_cache: dict[str, tuple[nn.Module, dict[str, Any], Captured, Problem]] = {}


def step_of(name: str) -> tuple[nn.Module, dict[str, Any], Captured, Problem]:
    if name not in _cache:
        torch.manual_seed(0)
        model, inputs = MODELS[name]()
        captured = capture(model, (), inputs)
        graph = captured.graph.with_measures(workspaces=measure_workspaces(captured).bytes)
        _cache[name] = model, inputs, captured, Problem(graph, 10**12)
    return _cache[name]


SCHEDULES: dict[str, Callable[[Graph], Schedule]] = {
    "keep-all": Schedule.keep_all,
    "rematerialized": everything_again,
    "random": lambda graph: random_repeats(graph, 0.3),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in HEAVY else n for n in MODELS],
)
def test_the_predicted_peak_is_measured_to_the_byte_and_bits_are_equal(
    name: str, schedule: str
) -> None:
    model, inputs, captured, problem = step_of(name)
    order = SCHEDULES[schedule](problem.graph)
    found = validate(model, captured, problem, order, Inputs((), inputs), options=once())
    assert found.measured_peak_bytes == found.predicted_peak_bytes
    assert found.gradients_equal
    assert found.loss_equal
    assert found.buffers_equal
    assert found.ok
    if schedule == "keep-all":
        assert found.measured_peak_bytes == found.unplanned_peak_bytes
        assert found.overhead_predicted == 0
    if schedule == "rematerialized":
        assert found.overhead_predicted > 0.1
    assert found.agreement.bitwise, "eager draws the same numbers"
    assert found.eager_difference == 0.0


def test_a_solver_s_schedule_measures_within_its_budget() -> None:
    model, inputs, captured, problem = step_of("gpt2")
    peak = simulate(problem, Schedule.keep_all(problem.graph)).peak
    budget = peak * 3 // 4
    result = solve(Problem(problem.graph, budget), "greedy")
    assert result.schedule is not None
    assert result.schedule != Schedule.keep_all(problem.graph)
    found = validate(model, captured, problem, result.schedule, Inputs((), inputs), options=once())
    assert found.measured_peak_bytes - found.resident_bytes <= budget
    assert found.unplanned_peak_bytes - found.resident_bytes == peak
    assert found.ok


def test_an_unequal_or_oversized_step_is_not_ok() -> None:
    model, inputs, captured, problem = step_of("mlp")
    schedule = Schedule.keep_all(captured.graph)
    tight = validate(
        model,
        captured,
        problem,
        schedule,
        Inputs((), inputs),
        options=once(budget_bytes=1000),
    )
    assert not tight.within_budget
    assert not tight.ok
    unmeasured = Problem(captured.graph, 10**12)  # a graph that knows no workspace
    short = validate(model, captured, unmeasured, schedule, Inputs((), inputs), options=once())
    assert short.predicted_peak_bytes < short.measured_peak_bytes
    assert not short.ok
    assert "NO" in str(short)


def test_the_model_is_afterwards_what_it_was() -> None:
    model, inputs, captured, problem = step_of("resnet")
    model.zero_grad()
    first = next(model.parameters())
    first.grad = torch.ones_like(first)
    before, grad = copy.deepcopy(model.state_dict()), first.grad
    state = torch.get_rng_state()
    validate(
        model, captured, problem, everything_again(problem.graph), Inputs((), inputs),
        options=once(optimizer="adamw", seed=3),
    )  # fmt: skip
    assert first.grad is grad
    assert all(p.grad is None for p in list(model.parameters())[1:])
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values()))
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()
    first.grad = None


@pytest.mark.parametrize("optimizer", [pytest.param("sgd", marks=pytest.mark.slow), "adamw"])
def test_the_optimizer_s_state_and_step_are_part_of_the_peak(optimizer: str) -> None:
    model, inputs, captured, problem = step_of("wide_norm")
    schedule = Schedule.keep_all(captured.graph)
    plain = validate(model, captured, problem, schedule, Inputs((), inputs), options=once())
    found = validate(
        model,
        captured,
        problem,
        schedule,
        Inputs((), inputs),
        options=once(optimizer=optimizer),
    )
    parameters = sum(p.nbytes for p in model.parameters())
    states = {"sgd": 0, "adamw": 2}[optimizer] * parameters
    assert states <= found.resident_bytes - plain.resident_bytes <= states + 4 * 8
    assert found.ok
    with pytest.raises(InvalidArgument, match="adamw"):
        validate(
            model,
            captured,
            problem,
            schedule,
            Inputs((), inputs),
            options=once(optimizer="sadam"),
        )


def test_a_validation_prints_its_table() -> None:
    found = Validation(
        True, True, True, 1e-7, 10, 2_000_000, 2_000_000, 2_100_000, 4_000_000, 3_000_000,
        0.1, 0.2, 0.012, 0.010, 0.011, "cpu", 2,
        measured_curve=np.zeros(0, np.int64),
    )  # fmt: skip
    text = str(found)
    for part in ("2.00 MB", "2.10 MB", "12.0 ms", "20.0%", "10.0%", "1.0e-07", "2 threads"):
        assert part in text, part
