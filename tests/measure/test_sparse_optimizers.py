"""What optimizers keep and take where gradients are sparse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import InvalidArgument
from pebble.measure.allocator import trace_memory
from pebble.measure.optimizers import Weight
from pebble.measure.sparse_optimizers import Table, sparse_optimizer_memory

TABLE = Table(Weight((500, 16), torch.float32), 40)


def test_sparse_adam_keeps_two_whole_tables_and_takes_a_few_rows() -> None:
    memory = sparse_optimizer_memory("sparse_adam", [], [TABLE])
    assert memory.state == 2 * 500 * 16 * 4
    table = nn.Embedding(500, 16, sparse=True)
    optimizer = torch.optim.SparseAdam(list(table.parameters()))
    ids = torch.randperm(500)[:40]  # rows that all differ: the most that it can take
    for _ in range(2):
        optimizer.zero_grad()
        (table(ids) * torch.ones(40, 16)).sum().backward()
        taken = trace_memory(optimizer.step).peak
    assert memory.temporaries == taken


def test_the_rest_of_the_parameters_is_counted_beside() -> None:
    weights = [Weight((300, 8), torch.float32)]
    both = sparse_optimizer_memory("sparse_adam", weights, [TABLE])
    dense = sparse_optimizer_memory("sparse_adam", weights, [])
    sparse = sparse_optimizer_memory("sparse_adam", [], [TABLE])
    assert both.state == dense.state + sparse.state
    assert both.temporaries == max(dense.temporaries, sparse.temporaries)


def test_an_optimizer_object_over_the_table_alone() -> None:
    table = nn.Embedding(500, 16, sparse=True)
    optimizer = torch.optim.SparseAdam(list(table.parameters()))
    known = Table(TABLE.weight, TABLE.rows, id(table.weight))
    memory = sparse_optimizer_memory(optimizer, [Weight((300, 8), torch.float32)], [known])
    named = sparse_optimizer_memory("sparse_adam", [], [TABLE])
    assert (memory.state, memory.temporaries) == (named.state, named.temporaries)
    assert not optimizer.state


@pytest.mark.parametrize(
    ("optimizer", "match"),
    [
        ("adamw", r"'adamw' takes no sparse gradients.*one of sgd, sparse_adam"),
        ("nonsense", r"'nonsense' is not known"),
        (
            lambda p: torch.optim.Adam(p),
            r"Adam cannot step over the sparse gradients",
        ),
        (lambda p: torch.optim.SGD(p, momentum=0.9), r"SGD keeps sparse tensors .*grow"),
    ],
)
def test_an_optimizer_that_takes_no_sparse_gradients_is_refused(optimizer: Any, match: str) -> None:
    table = nn.Embedding(20, 8, sparse=True)
    chosen = optimizer(list(table.parameters())) if callable(optimizer) else optimizer
    model = nn.Sequential(table, nn.Linear(8, 2))
    with pytest.raises(InvalidArgument, match=match):
        pebble.optimize(model, torch.arange(6), budget_bytes=10**9, optimizer=chosen)
