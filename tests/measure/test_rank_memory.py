"""What a rank keeps: predicted, measured, and the same numbers as without a plan."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import pebble
from pebble.errors import BudgetNotKept
from pebble.measure.rank_memory import GRADIENT_BUCKETS
from pebble.measure.step import trace_step
from pebble.plan.optimization import plan_step
from pebble.ranks import ALONE, REPLICAS, Buckets, Ranks
from pebble.tracing.torch_private.storages import storage_bytes
from tests.two_ranks import STEPS, Trained, batch, on_two_ranks, tower, train, train_joined

WAYS = ("optimize before", "optimize after", "budgeted before", "budgeted after")
SAVED = 8_000
"""Bytes that a plan has to save."""


def test_buckets_and_copies_are_counted_once_where_they_are() -> None:
    model, x = tower(), batch(0, 0)
    gradients = sum(p.nbytes for p in model.parameters())
    alone = trace_step(model, x, ranks=ALONE).resident
    copies = trace_step(model, x, ranks=Ranks(Buckets.COPIES)).resident
    views = trace_step(model, x, ranks=Ranks(Buckets.VIEWS)).resident
    assert copies.kinds == views.kinds == {**alone.kinds, GRADIENT_BUCKETS: gradients}
    assert copies.optimizer_step_peak == alone.optimizer_step_peak + gradients
    assert views.optimizer_step_peak == alone.optimizer_step_peak  # the gradients are the buckets
    more = trace_step(
        model, x, ranks=Ranks(Buckets.COPIES, broadcasts_buffers=True, hands_copies=True)
    ).resident
    assert more.total - copies.total == alone.kinds["buffers"] + x.shape[0] * 4 * x.itemsize


def plan_on(model: nn.Module, way: str, budget: int, accumulation: int, rank: int) -> nn.Module:
    options: dict[str, Any] = {"optimizer": "sgd", "accumulation_steps": accumulation}
    options |= {"budget_bytes": budget, "solver": "priced"}
    if way.startswith("budgeted"):
        return pebble.budgeted(model, display=False, **options)
    return pebble.optimize(model, batch(rank, 0), **options).apply(model)


def work(
    rank: int, ways: tuple[str, ...], accumulation: int, wrapper: dict[str, Any], buffers: bool
) -> Any:
    found: dict[str, tuple[Trained, int, int]] = {}
    asked = {"optimizer": "sgd", "accumulation_steps": accumulation}
    step = trace_step(tower(buffers=buffers), batch(rank, 0), **asked)
    budget = step.footprint.unplanned_peak - SAVED
    for way in ("plain", *ways):
        model = tower(buffers=buffers)
        if way.endswith("before"):
            model = plan_on(model, way, budget, accumulation, rank)
        wrapped = DistributedDataParallel(model, **wrapper)
        if way.endswith("after"):
            assert plan_on(wrapped, way, budget, accumulation, rank) is wrapped
        buckets = sum(b.buffer().nbytes for b in wrapped.reducer._get_zeros_like_grad_buckets())
        there = buckets + storage_bytes([*wrapped.parameters(), *wrapped.buffers()])
        with warnings.catch_warnings():
            warnings.simplefilter("error", BudgetNotKept)
            trained = train(wrapped, rank, accumulation)
        predicted = budget
        if way != "plain":
            status = pebble.status(wrapped)
            assert (status.planned_calls, status.unplanned_calls) == (STEPS * accumulation, 0)
            assert status.predicted_peak_bytes is not None
            predicted = status.predicted_peak_bytes
        found[way] = trained, there + trained.peak, predicted
    return found, budget


def check(ranks: list[Any], *, buckets: bool = False) -> None:
    for found, budget in ranks:
        plain, peak, _ = found.pop("plain")
        # with many buckets it is threads of gloo that say how many are there at a time
        assert buckets or peak > budget
        for trained, measured, predicted in found.values():
            assert all(map(torch.equal, trained.state, plain.state))
            assert trained.collectives == plain.collectives > STEPS
            assert measured <= predicted <= budget


def test_a_wrapped_model_is_planned_and_trains_as_before(tmp_path: Path) -> None:
    ranks = on_two_ranks(work, tmp_path, ("optimize after",), 2, {}, False)
    joined = train_joined(tower(buffers=False), 2)
    for trained, alone in zip(ranks[1][0]["plain"][0].state, joined, strict=True):
        torch.testing.assert_close(trained, alone)
    check(ranks)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(
    "wrapper",
    [
        {},
        {"gradient_as_bucket_view": True},
        {"find_unused_parameters": True},
        {"bucket_cap_mb": 0.001},
    ],
    ids=lambda wrapper: next(iter(wrapper), "default"),
)
def test_every_way_into_a_wrapper(
    tmp_path: Path, accumulation: int, wrapper: dict[str, Any]
) -> None:
    ways = tuple(way for way in WAYS if not wrapper or way != "optimize before")
    ranks = on_two_ranks(work, tmp_path, ways, accumulation, wrapper, True)
    check(ranks, buckets="bucket_cap_mb" in wrapper)


def late(rank: int) -> list[str]:
    model, x = tower(), batch(rank, 0)
    told = []
    for ranks, wrapper in ((ALONE, {}), (REPLICAS, {"find_unused_parameters": True})):
        step = trace_step(model, x, optimizer=None, ranks=ranks)
        plan = plan_step(step, step.footprint.unplanned_peak, solver="keep_all")
        wrapped = DistributedDataParallel(plan.apply(model), **wrapper)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", BudgetNotKept)
            wrapped(x).sum().backward()
        told.append(" ".join(str(w.message) for w in caught))
    return told


def test_what_a_wrapper_adds_to_a_finished_plan_is_told(tmp_path: Path) -> None:
    for alone, copies in on_two_ranks(late, tmp_path):
        assert "gradient buckets" in alone and "init_process_group" in alone
        assert "copies of the outputs" in copies
