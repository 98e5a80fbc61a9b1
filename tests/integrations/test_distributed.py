"""Blocks that FSDP2 shards, and one plan for all ranks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import pebble
from pebble.errors import BudgetNotKept, InfeasibleBudget, InvalidArgument, PebbleError
from pebble.integrations.distributed import budgeted_blocks, optimize_together
from pebble.measure.allocator import trace_memory
from pebble.tracing.sharded import unsharded_twin
from pebble.tracing.torch_private.storages import storage_bytes
from tests.two_ranks import RANKS, ROWS, STEPS, WIDTH, batch, collectives, on_two_ranks, tower

BLOCKS = 3


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.narrow(nn.functional.gelu(self.wide(self.norm(x))))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(WIDTH, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.last = nn.Linear(WIDTH, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x)


def loss(output: torch.Tensor) -> torch.Tensor:
    return output.square().mean()


def shard(model: Net) -> Net:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def steps(model: Any, rank: int, accumulation: int) -> tuple[list[torch.Tensor], int, int]:
    """The state after five steps, the peak of one, and the collectives of all."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    local = [p.to_local() for p in model.parameters()]
    peaks, began = [], collectives()

    def step(number: int) -> None:
        for k in range(accumulation):
            model.set_requires_gradient_sync(k + 1 == accumulation)
            (loss(model(batch(rank, number * accumulation + k))) / accumulation).backward()
        optimizer.step()
        optimizer.zero_grad()

    step(0)
    for number in range(1, STEPS):
        peaks.append(trace_memory(lambda n=number: step(n)).peak)
    ran = collectives() - began
    state = [p.full_tensor().clone() for p in model.parameters()]
    return state, storage_bytes(local) + min(peaks), ran


def work(rank: int, accumulation: int) -> Any:
    plain = steps(shard(Net()), rank, accumulation)
    made, budget = [], 10**9
    for way in ("before", "before", "after"):
        model = Net() if way == "before" else shard(Net())
        asked = {"optimizer": "sgd", "loss": loss, "accumulation_steps": accumulation}
        blocks = list(model.blocks) if way == "before" else None
        began = collectives()
        plan = budgeted_blocks(
            model, batch(rank, 0), blocks, budget_bytes=budget, time_limit=10, **asked
        )
        assert collectives() == began
        budget = 7 * plan.peak_bytes // 10 if budget == 10**9 else budget
        if way == "before":
            shard(model)
        with warnings.catch_warnings():
            warnings.simplefilter("error", BudgetNotKept)
            found = steps(model, rank, accumulation)
        calls = [pebble.status(block).planned_calls for block in model.blocks]
        assert calls == [STEPS * accumulation] * BLOCKS
        assert all(str(verdict) == "equal" for verdict in plan.checked.values())
        made.append((*found, plan.peak_bytes, plan.budget_bytes, plan.overhead))
    return plain, made


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
def test_planned_blocks_train_as_sharded_ones(tmp_path: Path, accumulation: int) -> None:
    alone = Net()
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.1)
    for number in range(STEPS * accumulation):
        x = torch.cat([batch(rank, number) for rank in range(RANKS)])
        (loss(alone(x)) / accumulation).backward()
        if (number + 1) % accumulation == 0:
            optimizer.step()
            optimizer.zero_grad()
    for (expected, plain_peak, plain_ran), made in on_two_ranks(work, tmp_path, accumulation):
        for mine, theirs in zip(expected, alone.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs.detach())
        for state, peak, ran, predicted, budget, overhead in made:
            assert all(map(torch.equal, state, expected))
            assert ran == plain_ran > 0
            assert peak <= predicted <= budget
            assert (overhead > 0) is (budget < 10**9)
        assert made[1][1] < plain_peak


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    store = f"file://{tmp_path / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
def test_what_is_sharded_is_planned_from_its_whole_shapes() -> None:
    model, x = shard(Net()), batch(0, 0)
    with pytest.raises(InvalidArgument, match="budgeted_blocks, before or after fully_shard"):
        pebble.optimize(model, x, budget_gb=1)
    twin = unsharded_twin(model)
    assert [p.shape for p in twin.parameters()] == [p.shape for p in model.parameters()]
    assert not any(isinstance(p, DTensor) for p in twin.parameters())
    assert type(twin) is Net and type(twin.blocks[0]) is Block
    assert twin(x).shape == (ROWS, 4)
    assert isinstance(model.blocks[0].wide.weight, DTensor)
    plan = budgeted_blocks(model, x, budget_gb=1, loss=loss, time_limit=4)
    assert {str(verdict) for verdict in plan.checked.values()} == {"equal"}
    again = budgeted_blocks(model, x, budget_gb=1, loss=loss, time_limit=4)
    assert again.peak_bytes == plan.peak_bytes
    loss(model(x)).backward()
    assert pebble.status(model.blocks[0]).planned_calls == 1


@pytest.mark.usefixtures("one_rank")
def test_blocks_that_were_sharded_with_their_plans_keep_them() -> None:
    model, x = Net(), batch(0, 0)
    budgeted_blocks(model, x, model.blocks, budget_gb=1, loss=loss, time_limit=4)
    with pytest.raises(InvalidArgument, match=r"'blocks\.0' was planned before fully_shard"):
        budgeted_blocks(shard(model), x, budget_gb=1, loss=loss, time_limit=4)
    loss(model(x)).backward()
    assert pebble.status(model.blocks[0]).planned_calls == 1


def test_blocks_that_cannot_be_planned_by_themselves() -> None:
    model, x = Net(), batch(0, 0)
    with pytest.raises(InvalidArgument, match="No block of this Net is sharded"):
        budgeted_blocks(model, x, budget_gb=1, ranks=2)
    with pytest.raises(InvalidArgument, match="no part of the model"):
        budgeted_blocks(model, x, [Block()], budget_gb=1, ranks=2)
    with pytest.raises(InvalidArgument, match=r"inside another block \('blocks.0.wide'\)"):
        inner = [model.blocks[0], model.blocks[0].wide]
        budgeted_blocks(model, x, inner, budget_gb=1, ranks=2)
    model.blocks[1] = model.blocks[0]
    with pytest.raises(InvalidArgument, match="'blocks.0' is called 2 times"):
        budgeted_blocks(model, x, [model.blocks[0]], budget_gb=1, ranks=2)


def test_a_budget_that_no_choice_fits() -> None:
    model = Net()
    with pytest.raises(InfeasibleBudget, match="gathered parameters") as caught:
        budgeted_blocks(
            model, batch(0, 0), [model.blocks[0]], budget_bytes=9000, ranks=2, time_limit=4
        )
    assert caught.value.least_bytes > 9000
    assert type(model.blocks[0]) is Block


@pytest.mark.usefixtures("one_rank")
def test_tensors_that_are_sharded_otherwise_are_refused() -> None:
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    mesh = init_device_mesh("cpu", (1,))
    model = parallelize_module(tower(), mesh, {"0": ColwiseParallel()})
    with pytest.raises(InvalidArgument, match=r"sharded over ranks \(DTensor\)"):
        pebble.optimize(model, batch(0, 0), budget_gb=1)


def together(rank: int) -> tuple[Any, ...]:
    x, told = batch(rank, 0), []
    options = {"budget_bytes": 10**6, "optimizer": "sgd", "solver": "priced"}
    began = collectives()
    plan = optimize_together(tower(), x, **options)
    ran = collectives() - began
    plan.apply(tower())(x).sum().backward()
    for inputs, more in ((x[: ROWS - 8 * rank], {}), (x, {"budget_bytes": 10})):
        try:
            optimize_together(tower(), inputs, **{**options, **more})
        except PebbleError as error:
            told.append(str(error))
    return plan.schedule.order, plan.problem.graph.fingerprint, ran, told


def test_rank_0_plans_and_the_others_check(tmp_path: Path) -> None:
    first, second = on_two_ranks(together, tmp_path)
    assert first[:3] == second[:3]
    assert first[3][0] == f"Rank 1 has no part in the plan of all ranks: {second[3][0]}"
    assert second[3][1] == f"Rank 0 has no part in the plan of all ranks: {first[3][1]}"
