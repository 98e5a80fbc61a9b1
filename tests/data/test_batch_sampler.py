"""Batches fill a budget, are the same on every rank and after an interruption, and name misfits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import pebble
from pebble.data import BudgetBatchSampler, pad_collate
from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.plan.families.family import Family
from tests.plan.families.growing import (
    BUDGET,
    SMALL_BUDGET,
    Tiny,
    measured_peak,
    small_family,
    tokens,
)

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def drawn(count: int) -> list[int]:
    generator = torch.Generator().manual_seed(0)
    skewed = torch.exp(torch.randn(count, generator=generator) * 0.5 + 2.7)
    return skewed.long().clamp(8, 40).tolist()


LENGTHS = drawn(150)


@pytest.fixture(scope="module")
def family() -> Family:
    return small_family()


@pytest.mark.slow
def test_every_batch_fits_when_run_and_fills_the_budget() -> None:
    planned: Any = pebble.budgeted(Tiny(), budget_bytes=BUDGET, optimizer=None, display=False)
    family = pebble.family(planned, tokens, lengths=(8, 40), time_limit=2)
    data = [{"input_ids": torch.ones(n).long(), "labels": torch.ones(n).long()} for n in LENGTHS]
    sampler = BudgetBatchSampler(LENGTHS, family)

    def collate(samples: list[Any]) -> dict[str, torch.Tensor]:
        made = pad_collate(samples)
        return {name: made[name] for name in ("input_ids", "labels")}

    batches = list(DataLoader(data, batch_sampler=sampler, collate_fn=collate))  # type: ignore[arg-type]
    peaks = [measured_peak(planned, batch) for batch in batches]
    assert len(peaks) == len(sampler)
    assert max(peaks) <= BUDGET
    assert sum(peaks) / len(peaks) >= 0.9 * BUDGET
    padded = sum(batch["input_ids"].numel() for batch in batches) - sum(LENGTHS)
    assert padded < _padding_of_fixed_batches(len(batches))


def _padding_of_fixed_batches(count: int) -> int:
    """Of as many batches of one size, samples sorted by length."""
    order = sorted(LENGTHS, reverse=True)
    size = -(-len(order) // count)
    parts = [order[i : i + size] for i in range(0, len(order), size)]
    return sum(len(part) * part[0] for part in parts) - sum(LENGTHS)


def test_ranks_share_every_sample_in_equally_many_batches(family: Family) -> None:
    ranks = [BudgetBatchSampler(LENGTHS, family, num_replicas=3, rank=r) for r in range(3)]
    found = [list(sampler) for sampler in ranks]
    assert len({len(batches) for batches in found}) == 1 == len({len(r) for r in ranks})
    every = [i for batches in found for batch in batches for i in batch]
    assert sorted(every) == list(range(len(LENGTHS)))
    for batches in found:
        assert all(len(b) <= family.max_batch(max(LENGTHS[i] for i in b)) for b in batches)


def test_an_interrupted_epoch_goes_on_with_the_same_batches(family: Family) -> None:
    whole = BudgetBatchSampler(LENGTHS, family, seed=4)
    first, second = list(whole), list(whole)
    assert first != second and sorted(map(len, first)) != [1]
    stopped = BudgetBatchSampler(LENGTHS, family, seed=4)
    running = iter(stopped)
    begun = [next(running) for _ in range(3)]
    state = stopped.state_dict()
    again = BudgetBatchSampler(LENGTHS, family, seed=4)
    again.load_state_dict(state)
    assert again.state_dict() == state
    assert begun + list(again) == first
    assert list(again) == second
    again.load_state_dict(stopped.state_dict(batches_done=2))
    assert list(again) == first[2:]
    again.set_epoch(0)
    assert list(again) == first
    with pytest.raises(InvalidArgument, match="seed 4, but it is 5"):
        BudgetBatchSampler(LENGTHS, family, seed=5).load_state_dict(state)


def test_a_sample_that_fits_nowhere_is_named_before_training() -> None:
    with pytest.raises(InfeasibleBudget, match="Sample 2 of length 400 fits in no batch") as told:
        BudgetBatchSampler([8, 9, 400, 10], small_family((8, 400)))
    assert told.value.least_bytes is not None and told.value.least_bytes > SMALL_BUDGET


def test_what_it_does_not_take(family: Family) -> None:
    with pytest.raises(InvalidArgument, match=r"what pebble\.budgeted"):
        BudgetBatchSampler(LENGTHS, Tiny())
    with pytest.raises(InvalidArgument, match="rank is 2"):
        BudgetBatchSampler(LENGTHS, family, num_replicas=2, rank=2)
    with pytest.raises(InvalidArgument, match="no entries"):
        BudgetBatchSampler([], family)
    with pytest.raises(InvalidArgument, match="too few for 2 ranks"):
        list(BudgetBatchSampler([8], family, num_replicas=2, rank=0))


def test_padding() -> None:
    samples = [{"x": torch.ones(2, 3), "y": 1.5}, {"x": torch.ones(4, 3), "y": 2}]
    made = pad_collate(samples, pad_to=3, padding={"x": 7})
    assert made["x"].shape == (2, 6, 3) and made["x"][0, 2:].eq(7).all()
    assert made["y"].tolist() == [1.5, 2.0]
    labels = pad_collate([{"labels": [1, 2]}, {"labels": [3]}])["labels"]
    assert labels.tolist() == [[1, 2], [3, -100]]
    with pytest.raises(InvalidArgument, match="the same names"):
        pad_collate([{"x": [1]}, {"y": [1]}])
