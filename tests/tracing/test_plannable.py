"""What users hand over as a model: planned modules, wrappers, and what is none."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

import pebble
from pebble.errors import InvalidArgument
from pebble.tracing import capture
from pebble.tracing.plannable import plannable

X = torch.linspace(-1, 1, 32).reshape(4, 8)


def tower() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))


def planned(model: nn.Module, x: torch.Tensor) -> nn.Module:
    options = {"budget_bytes": 10**9, "optimizer": None, "solver": "recompute_all"}
    return pebble.optimize(model, x, **options).apply(model)


def assert_trains_like(step: nn.Module, twin: nn.Module) -> None:
    step.zero_grad(set_to_none=True)
    step(X).square().mean().backward()
    twin(X).square().mean().backward()
    for mine, theirs in zip(step.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_a_planned_module_is_planned_as_its_model() -> None:
    model = tower()
    twin, first = copy.deepcopy(model), planned(model, X[:2])
    again = planned(first, X)
    assert_trains_like(again, twin)
    assert capture(first, (X,)).graph.fingerprint == capture(model, (X,)).graph.fingerprint


def test_planned_parts_are_planned_with_the_whole_and_stay_where_they_are() -> None:
    part = tower()
    twin = nn.Sequential(part, nn.Linear(8, 8), part)
    twin = copy.deepcopy(twin)
    step = planned(part, X[:2])
    whole = nn.Sequential(step, copy.deepcopy(twin[1]), step)
    assert_trains_like(planned(whole, X), twin)
    assert whole[0] is step and whole[2] is step


def test_parts_that_are_compiled_are_traced_through() -> None:
    model = tower()
    twin = copy.deepcopy(model)
    model[0] = torch.compile(model[0], backend="aot_eager")
    assert_trains_like(planned(model, X), twin)


def test_a_compiled_model_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="_orig_mod"):
        capture(torch.compile(tower()), (X,))


def test_what_is_no_model() -> None:
    with pytest.raises(InvalidArgument, match="is a list"):
        plannable([tower()])


def test_parameters_without_a_shape_are_made_by_the_users_own_call() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.LazyLinear(2), nn.LazyBatchNorm1d())
    with pytest.raises(InvalidArgument, match="Part '1' of the model has parameters without a"):
        capture(model, (X,))
    model(X)
    assert capture(model, (X,)).graph.ops


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    store = f"file://{tmp_path / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
def test_distributed_data_parallel_goes_around_the_planned_module() -> None:
    model = tower()
    twin = copy.deepcopy(model)
    with pytest.raises(InvalidArgument, match="^Part '0' of the model is wrapped"):
        planned(nn.Sequential(nn.parallel.DistributedDataParallel(model)), X)
    assert_trains_like(nn.parallel.DistributedDataParallel(planned(model, X)), twin)
    model = tower()
    twin = copy.deepcopy(model)
    wrapped = nn.parallel.DistributedDataParallel(model)
    assert planned(wrapped, X) is wrapped
    assert plannable(wrapped) is not model and plannable(wrapped)[0] is model[0]
    assert_trains_like(wrapped, twin)
    assert pebble.status(wrapped).planned_calls == 1


@pytest.mark.usefixtures("one_rank")
def test_sharded_models_are_refused() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = tower()
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(InvalidArgument, match="sharded by FSDP"):
        planned(model, X)
