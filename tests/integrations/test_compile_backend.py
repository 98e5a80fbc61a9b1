"""torch.compile with a pebble schedule: same bits as without, within the budget, clear errors."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed
from torch.nn import functional as F

from pebble.errors import InfeasibleBudget, InvalidArgument, UnknownSolver
from pebble.measure.allocator import trace_memory
from pebble.tracing import capture


def deep(width: int = 64, depth: int = 6) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), nn.BatchNorm1d(width), nn.GELU(), nn.Dropout(0.1)]
    return nn.Sequential(*layers)


def train(model: Any, x: torch.Tensor, steps: int = 3) -> list[float]:
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        loss = model(x).square().mean()
        loss.backward()
        losses.append(float(loss.detach()))
    return losses


@pytest.fixture(autouse=True)
def _fresh() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small ops wait for other threads for longer than they run
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    torch.set_num_threads(threads)


def compiled(model: nn.Module, **options: Any) -> Any:
    return torch.compile(model, backend="pebble", options=options)


@pytest.mark.parametrize(
    ("solver", "budget"),
    [("keep_all", 10**9), ("recompute_all", 10**9), ("greedy", 1_300_000)],
)
def test_training_is_bitwise_that_of_the_graph_without_a_plan(solver: str, budget: int) -> None:
    x = torch.randn(256, 64)
    model, twin = deep(), deep()
    expected = train(torch.compile(twin, backend="aot_eager"), x)
    torch._dynamo.reset()
    found = train(compiled(model, budget_bytes=budget, solver=solver), x)
    assert found == expected
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    for a, b in zip(model.buffers(), twin.buffers(), strict=True):
        assert torch.equal(a, b)


def test_a_smaller_budget_lowers_the_measured_peak(caplog: pytest.LogCaptureFixture) -> None:
    x = torch.randn(512, 64)
    peaks = []
    for budget in (10**9, 1_900_000):
        torch._dynamo.reset()
        model = deep()
        step = compiled(model, budget_bytes=budget, solver="greedy")
        with caplog.at_level(logging.INFO, "pebble"):
            train(step, x, 1)
        model.zero_grad()
        peaks.append(trace_memory(lambda s=step: train(s, x, 1)).peak)
    resident = sum(t.nbytes for t in (*model.parameters(), *model.buffers(), x))
    assert peaks[0] > 1_900_000 - resident
    assert peaks[1] < 0.8 * peaks[0]
    assert "peak" in caplog.text


def test_no_grad_and_evaluation_mode_run() -> None:
    model = deep()
    step = compiled(model, budget_gb=1, solver="keep_all")
    with torch.no_grad():
        assert step(torch.randn(8, 64)).shape == (8, 64)
    model.eval()
    x = torch.randn(8, 64)
    assert torch.allclose(step(x), model(x), atol=1e-6)


def test_tied_weights_and_a_loss_inside() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(11, 8), nn.Linear(8, 11, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits = self.head(self.embed(ids))
            return F.cross_entropy(logits, ids), logits

    ids = torch.tensor([1, 5, 7])
    model = Tied()
    twin = copy.deepcopy(model)
    step = compiled(model, budget_gb=1, solver="recompute_all")
    step(ids)[0].backward()
    twin(ids)[0].backward()
    assert torch.allclose(model.embed.weight.grad, twin.embed.weight.grad)


@pytest.mark.parametrize(
    ("options", "cause", "text"),
    [
        ({}, InvalidArgument, r'options=\{"budget_gb": 15\}'),
        ({"budget_gb": -1}, InvalidArgument, "positive"),
        ({"budget_gb": 1, "solver": "sovler"}, UnknownSolver, "sovler"),
        ({"budget_bytes": 20_000, "solver": "greedy"}, InfeasibleBudget, "below the least budget"),
        ({"budget_gb": 1, "outputs": "loss"}, InvalidArgument, "no option 'outputs'"),
        ({"budget_gb": 1, "time_limit": 0}, InvalidArgument, "time limit is 0"),
    ],
)
def test_errors_say_what_to_do(options: dict[str, Any], cause: type[Exception], text: str) -> None:
    step = torch.compile(deep(), backend="pebble", options=options)
    with pytest.raises(BackendCompilerFailed, match=text) as caught:
        step(torch.randn(64, 64))
    assert isinstance(caught.value.inner_exception, cause)


def test_symbolic_sizes_are_refused() -> None:
    step = torch.compile(
        deep(), backend="pebble", options={"budget_gb": 1, "solver": "keep_all"}, dynamic=True
    )
    with pytest.raises(BackendCompilerFailed, match="dynamic=False"):
        step(torch.randn(8, 64))


def test_the_optimizer_s_state_counts() -> None:
    x = torch.randn(64, 64)
    parameters = sum(p.nbytes for p in deep().parameters())
    budget = 6 * parameters
    train(compiled(deep(), budget_bytes=budget, solver="greedy"), x, 1)
    torch._dynamo.reset()
    with pytest.raises(BackendCompilerFailed, match="optimizer state"):
        train(
            compiled(deep(), budget_bytes=3 * parameters, solver="greedy", optimizer="adamw"), x, 1
        )


def test_it_asks_whether_the_optimizer_s_step_fits_before_it_solves() -> None:
    asked: list[Any] = []

    def spy(problem: Any) -> Any:
        from pebble.schedule import Schedule
        from pebble.solver import Answer

        asked.append(problem)
        return Answer(Schedule.keep_all(problem.graph))

    parameters = sum(p.nbytes for p in deep().parameters())
    options = {"budget_bytes": 3 * parameters, "solver": spy, "optimizer": "adamw"}
    with pytest.raises(BackendCompilerFailed, match="in the optimizer's step") as caught:
        train(compiled(deep(), **options), torch.randn(4, 64), 1)
    assert isinstance(caught.value.inner_exception, InfeasibleBudget)
    assert asked == []


def test_it_plans_the_graph_that_capture_plans() -> None:
    x = torch.randn(16, 64)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 4))
    seen: list[int] = []

    def spy(problem: Any) -> Any:
        from pebble.schedule import Schedule
        from pebble.solver import Answer

        seen.append(len(problem.graph.ops))
        return Answer(Schedule.keep_all(problem.graph))

    train(compiled(model, budget_gb=1, solver=spy), x, 1)
    assert seen == [len(capture(model, (x,)).graph.ops)]


@pytest.mark.parametrize(
    "pieces",
    [
        lambda z: z.chunk(2, -1),
        lambda z: z.split([3, 5], -1),
        lambda z: z.unbind(0),
        lambda z: (z.chunk(2, -1)[0].mT, z.chunk(2, -1)[1].flatten(), z[1]),
        lambda z: (z[::2], z[1::2, 3:]),
    ],
    ids=["chunk", "split", "unbind", "views of pieces", "overlapping"],
)
def test_outputs_that_are_pieces_of_one_tensor(pieces: Any) -> None:
    class Pieces(nn.Linear):
        def forward(self, x: torch.Tensor) -> Any:
            return pieces(super().forward(x).tanh())

    model, x = Pieces(8, 8), torch.randn(4, 8)
    twin = copy.deepcopy(model)
    for step in (twin, compiled(model, budget_bytes=10**9, solver="recompute_all")):
        sum((i + 1) * part.square().mean() for i, part in enumerate(step(x))).backward()
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
