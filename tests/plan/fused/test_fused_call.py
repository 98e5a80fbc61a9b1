"""Steps that inductor fuses: its own gradients, within the budget, whatever the batch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from pebble.errors import InfeasibleBudget
from pebble.measure.allocator import trace_memory

pytestmark = pytest.mark.slow  # each test compiles C++


@pytest.fixture(autouse=True)
def _fresh(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "inductor"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    torch.set_num_threads(threads)


class Net(nn.Module):
    def __init__(self, drop: float, breaks: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Linear(32, 128), nn.BatchNorm1d(128), nn.GELU())
        self.rest = nn.Sequential(nn.Dropout(drop), nn.Linear(128, 128), nn.GELU())
        self.head = nn.Linear(128, 32)
        self.breaks = breaks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        if self.breaks:
            torch._dynamo.graph_break()
        return (self.head(self.rest(x)) ** 2).mean()


def train(step: Any, x: torch.Tensor) -> None:
    torch.manual_seed(1)
    step(x).backward()


def resident(model: nn.Module, x: torch.Tensor) -> int:
    return sum(t.nbytes for t in (*model.parameters(), *model.buffers(), x))


def compiled(model: nn.Module, budget: int, reports: list[Any]) -> Any:
    options = {
        "budget_bytes": budget,
        "inner": "inductor",
        "solver": "greedy",
        "on_report": reports.append,
    }
    return torch.compile(model, backend="pebble", options=options)


def test_gradients_are_inductor_s_within_the_budget_and_a_smaller_batch_runs() -> None:
    x = torch.randn(256, 32)
    twin, model = Net(0.3), Net(0.3)
    train(torch.compile(twin), x)
    torch._dynamo.reset()
    kept: list[Any] = []
    train(compiled(copy.deepcopy(model), 10**9, kept), x)
    torch._dynamo.reset()
    budget = int(0.85 * kept[0].measured_bytes)
    reports: list[Any] = []
    step = compiled(model, budget, reports)
    train(step, x)
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-5, atol=1e-7)
    for mine, theirs in zip(model.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert kept[0].recomputed == 0 < reports[0].recomputed
    assert 0.8 * budget <= reports[0].measured_bytes <= budget  # few plans: they lie apart
    model.zero_grad()
    peak = trace_memory(lambda: train(step, x)).peak + resident(model, x)
    assert peak <= budget
    train(step, x[:100])
    assert len(reports) == 2
    assert reports[1].measured_bytes <= budget


def test_less_than_the_floor_is_refused() -> None:
    model, x = Net(0.0), torch.randn(256, 32)
    with pytest.raises(InfeasibleBudget, match="least"):
        train(compiled(model, resident(model, x) + 200_000, []), x)


def test_graphs_after_a_break_share_the_budget() -> None:
    x = torch.randn(256, 32)
    model, twin = Net(0.0, breaks=True), Net(0.0)
    budget = resident(model, x) + 1_100_000
    reports: list[Any] = []
    step = compiled(model, budget, reports)
    train(step, x)
    train(twin, x)
    assert len(reports) == 2
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6)
    model.zero_grad()
    assert trace_memory(lambda: train(step, x)).peak + resident(model, x) <= budget
