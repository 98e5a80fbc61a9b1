"""A budgeted model goes through accelerate's `prepare`, or comes out of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from tests.two_ranks import RANKS, on_two_ranks

accelerate = pytest.importorskip("accelerate")
pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(8, 16), nn.Dropout(0.2), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        out = self.last(self.drop(self.first(x).tanh()))
        return {"loss": out.float().square().mean(), "out": out}


def train(precision: str, planned: str, steps: int) -> Any:
    accelerate.state.AcceleratorState._reset_state(True)
    torch.manual_seed(0)
    model: Any = Net()
    accelerator = accelerate.Accelerator(
        mixed_precision=precision, cpu=True, gradient_accumulation_steps=steps
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    options = {"budget_gb": 1, "display": False, "accumulation_steps": steps}
    if planned == "before":
        model = pebble.budgeted(model, **options)
    model, optimizer = accelerator.prepare(model, optimizer)
    if planned == "after":
        model = pebble.budgeted(model, **options)
    for rows in (6, 6, 3):
        with accelerator.accumulate(model):
            accelerator.backward(model(torch.linspace(-1, 1, rows * 8).reshape(rows, 8))["loss"])
            optimizer.step()
            optimizer.zero_grad()
    return accelerator, model


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("planned", ["before", "after"])
def test_prepared_models_train_as_without_a_plan(precision: str, planned: str) -> None:
    expected = train(precision, "never", 2)[1].state_dict()
    accelerator, model = train(precision, planned, 2)
    found = model.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    status = pebble.status(model)
    assert (status.planned_calls, status.unplanned_calls) == (3, 0)
    twin = copy.deepcopy(model)
    twin(torch.ones(6, 8))["loss"].backward()
    assert pebble.status(twin).planned_calls == 1
    assert pebble.status(model).planned_calls == 3
    bare = accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    before = pebble.status(bare).planned_calls
    bare(torch.ones(6, 8))["loss"].backward()
    assert pebble.status(bare).planned_calls == before + 1


def on_a_rank(rank: int) -> tuple[list[torch.Tensor], ...]:
    launched = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": RANKS, "MASTER_ADDR": "127.0.0.1"}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {**launched, "MASTER_PORT": 29500}.items():
            environment.setenv(name, str(value))
        found = []
        for planned in ("never", "before", "after"):
            model = train("no", planned, 2)[1]
            assert isinstance(model, nn.parallel.DistributedDataParallel)
            found.append([tensor.detach() for tensor in model.module.state_dict().values()])
            if planned != "never":
                status = pebble.status(model)
                assert (status.planned_calls, status.unplanned_calls) == (3, 0)
    return tuple(found)


@pytest.mark.slow
def test_prepared_models_train_on_two_ranks_as_without_a_plan(tmp_path: Path) -> None:
    for expected, *planned in on_two_ranks(on_a_rank, tmp_path):
        for found in planned:
            assert all(map(torch.equal, found, expected))
