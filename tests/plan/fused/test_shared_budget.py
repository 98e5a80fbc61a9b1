"""What the graphs of one model hold for one another."""

from __future__ import annotations

import torch
from torch import nn

from pebble.plan.fused.shared_budget import (
    Share,
    SharedBudget,
    gradient_bytes,
    parameter_storages,
)


def two_graphs(budget: int) -> SharedBudget:
    shared = SharedBudget(budget)
    shared.begins("a")
    shared.shares["a"] = Share({1: 10}, 12, 40, 30, 10)
    shared.begins("b")
    shared.shares["b"] = Share({2: 5}, 7, 20, 8, 5)
    return shared


def test_what_the_first_saves_and_the_second_s_parameters_count() -> None:
    shared = two_graphs(70)
    assert shared.earlier("b") == ["a"]
    assert shared.later("a") == ["b"]
    assert shared.beside_bytes("b", {2: 5}) == 10 + 30
    assert shared.beside_bytes("a", {1: 10}) == 5 + 5
    assert shared.later_bytes("a") == 20
    # the first: its own 12, 30 held and 20 of the second between its halves, and beside it 10
    assert shared.peak_bytes == 12 + max(40, 30 + 20) + 10
    assert not shared.is_kept


def test_a_graph_after_the_backward_is_no_company() -> None:
    shared = SharedBudget(100)
    shared.begins("static")
    shared.shares["static"] = Share({1: 10}, 12, 40, 30, 10)
    shared.ends("static")
    shared.begins("dynamic")
    assert shared.beside_bytes("dynamic", {1: 10}) == 0


def test_a_step_without_a_backward_does_not_count_in_the_next() -> None:
    shared = two_graphs(100)
    shared.begins("a")
    assert shared.earlier("a") == []


def test_a_tied_weight_counts_once() -> None:
    layer = nn.Linear(4, 4, bias=False)
    tensors = [layer.weight, layer.weight, torch.zeros(3)]
    assert sum(parameter_storages(tensors).values()) == 64
    assert gradient_bytes(tensors) == 64
