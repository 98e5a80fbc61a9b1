"""What a step keeps besides activations, and what optimizers truly allocate."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import pebble
from pebble.errors import InvalidArgument
from pebble.measure.allocator import trace_memory
from pebble.measure.memory import check_optimizer, step_memory
from pebble.measure.optimizers import Weight, optimizer_memory
from pebble.tracing import Captured, capture

OPTIMIZERS = {
    "sgd": lambda p, **k: torch.optim.SGD(p, lr=0.1, **k),
    "momentum": lambda p, **k: torch.optim.SGD(p, lr=0.1, momentum=0.9, **k),
    "adam": lambda p, **k: torch.optim.Adam(p, **k),
    "adamw": lambda p, **k: torch.optim.AdamW(p, **k),
}
WAYS: dict[str | None, dict[str, bool]] = {
    None: {},
    "for-loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


def perceptron(dtype: torch.dtype = torch.float32) -> nn.Module:
    return nn.Sequential(nn.Linear(300, 400), nn.LayerNorm(400), nn.Linear(400, 20)).to(dtype)


MODELS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "perceptron": (perceptron, (8, 300)),
    "bf16": (lambda: perceptron(torch.bfloat16), (8, 300)),
    "convolution": (
        lambda: nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.Flatten()),
        (4, 3, 8, 8),
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def trained(request: pytest.FixtureRequest) -> tuple[nn.Module, Captured]:
    make, shape = MODELS[request.param]
    model = make()
    x = torch.randn(shape, dtype=next(model.parameters()).dtype)
    return model, capture(model, (x,))


def measured_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, int]:
    """State after three steps, and the most that a step held beyond parameters and gradients."""
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)

    def steps() -> None:
        for _ in range(3):
            optimizer.step()

    trace = trace_memory(steps)
    return int(trace.live[-1]) if len(trace.live) else 0, trace.peak


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_step_is_predicted(
    trained: tuple[nn.Module, Captured], name: str, way: str | None
) -> None:
    model, captured = trained
    optimizer = OPTIMIZERS[name](list(model.parameters()), **WAYS[way])
    own = step_memory(captured, optimizer=optimizer)
    state, worst = measured_step(model, optimizer)
    memory = step_memory(captured, optimizer=name, implementation=way)
    assert memory.kinds.get("optimizer state", 0) == state
    rest = (
        memory.resident.optimizer_step_peak - memory.optimizer.state - memory.optimizer.temporaries
    )
    assert rest + worst <= memory.resident.optimizer_step_peak <= 1.01 * (rest + worst)
    assert own.resident.optimizer_step_peak == memory.resident.optimizer_step_peak, (
        "an optimizer object says it too"
    )
    again = step_memory(captured, optimizer=optimizer)
    assert again.resident.optimizer_step_peak == memory.resident.optimizer_step_peak, (
        "and after its first steps"
    )


def test_resident_counts_each_storage_once() -> None:
    model = nn.Sequential(nn.Linear(30, 30), nn.BatchNorm1d(30), nn.Linear(30, 30, bias=False))
    model[2].weight = model[0].weight
    x = torch.randn(5, 30)
    memory = step_memory(capture(model, (x,)))
    assert memory.kinds["parameters"] == 4 * (30 * 30 + 30 + 60)
    assert memory.kinds["buffers"] == 4 * 60 + 8
    assert memory.kinds["inputs"] == 4 * 150
    assert memory.gradients == memory.kinds["parameters"]
    assert memory.resident.optimizer_step_peak == 0
    assert memory.resident.total == sum(memory.kinds.values())


def test_frozen_parameters_have_neither_gradient_nor_state() -> None:
    model = nn.Sequential(nn.Linear(50, 50), nn.Linear(50, 10, bias=False))
    model[0].requires_grad_(False)
    memory = step_memory(capture(model, (torch.randn(2, 50),)), optimizer="adam")
    assert memory.kinds["parameters"] == 4 * (2550 + 500)
    assert memory.gradients == 4 * 500
    assert memory.kinds["optimizer state"] == 2 * 4 * 500 + 4


def test_what_the_step_does_not_touch_is_there_too() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(10, 10), nn.Linear(10, 10)
            self.register_buffer("table", torch.ones(100))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    model = Model()
    captured = capture(model, (torch.randn(3, 10),))
    optimizer = torch.optim.Adam(model.parameters())
    memory = step_memory(captured, optimizer=optimizer, model=model)
    assert memory.kinds["parameters"] == 2 * 440
    assert memory.kinds["buffers"] == 400
    assert memory.gradients == 440
    assert memory.kinds["optimizer state"] == 2 * 440 + 8, "no gradient, no state"


def test_outputs_that_the_caller_holds_count_in_the_optimizer_step() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 1000)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.inner(x)
            return {"loss": logits.square().mean(), "logits": logits}

    captured = capture(Model(), (torch.randn(4, 8),), loss=lambda out: out["loss"])
    assert step_memory(captured, optimizer="sgd").outputs >= 4 * 1000 * 4


def test_the_whole_step_is_the_larger_of_its_two_peaks() -> None:
    captured = capture(nn.Linear(100, 100), (torch.randn(2, 100),))
    memory = step_memory(captured, optimizer="adam")
    assert memory.resident.whole_step_peak(10**6) == memory.resident.total + 10**6
    assert memory.resident.whole_step_peak(100) == memory.resident.optimizer_step_peak


def test_eight_bit_adam_takes_about_two_bytes_a_parameter() -> None:
    weights = [Weight((4096, 4096), torch.bfloat16), Weight((100,), torch.bfloat16)]
    state = optimizer_memory("adamw8bit", weights).state
    assert state / weights[0].numel == pytest.approx(2.031, abs=0.001)
    paged = optimizer_memory("paged_adamw8bit", weights)
    assert paged.state < 10_000 < paged.host


def test_named_states() -> None:
    weights = [Weight((1000, 500), torch.float32), Weight((500,), torch.float32)]
    size = sum(w.bytes for w in weights)
    assert optimizer_memory("lion", weights).state == size
    assert optimizer_memory("adafactor", weights).state < size / 100
    assert optimizer_memory(None, weights).state == 0
    foreach = optimizer_memory("adamw", weights, device="cuda")
    assert foreach.temporaries >= size, "on CUDA torch picks foreach"
    assert foreach.state == 2 * size, "and keeps step counters on the host"


def test_a_7b_model_needs_no_memory_to_be_counted() -> None:
    with FakeTensorMode():
        model = nn.Linear(80_000, 80_000, bias=False)
        captured = capture(model, (torch.randn(1, 80_000),))
    memory = step_memory(captured, optimizer="adamw")
    assert memory.kinds["parameters"] == 4 * 80_000**2
    assert memory.kinds["optimizer state"] == 8 * 80_000**2 + 4


@pytest.mark.parametrize("optimizer", ["adamax9000", 3])
def test_an_unknown_optimizer_lists_the_choices(optimizer: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"sgd.*paged_adamw8bit"):
        optimizer_memory(optimizer, [])


def test_an_unknown_implementation_lists_the_choices() -> None:
    with pytest.raises(InvalidArgument, match=r"for-loop, foreach, fused"):
        optimizer_memory("adam", [], implementation="fast")


def test_an_optimizer_that_cannot_be_looked_into_must_have_stepped() -> None:
    class Closed(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            raise RuntimeError("needs a closure")

    parameter = nn.Parameter(torch.zeros(10))
    optimizer = Closed([parameter], lr=0.1)
    with pytest.raises(InvalidArgument, match="one step"):
        optimizer_memory(optimizer, [])
    optimizer.state[parameter]["average"] = torch.zeros(10)
    assert optimizer_memory(optimizer, []).state == 40


def test_an_optimizer_of_another_model_is_refused() -> None:
    model, x = perceptron(), torch.randn(8, 300)
    other = torch.optim.AdamW(copy.deepcopy(model).parameters())
    for ask in (pebble.optimize, pebble.estimate):
        with pytest.raises(InvalidArgument, match="AdamW holds no parameter of this Sequential"):
            budget = {"budget_gb": 1} if ask is pebble.optimize else {}
            ask(model, x, optimizer=other, **budget)
    check_optimizer(torch.optim.AdamW(model[0].parameters()), model)
    check_optimizer("adamw", model)
