"""How two steps are compared where their gradients are sparse."""

from __future__ import annotations

import math

import torch

from pebble.runtime.agreement import compare
from pebble.tracing.torch_private.sparse_rows import sparse_tensor

ROWS = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
NAME = "gradient of 'table'"


def gradient(indices: list[int], values: torch.Tensor) -> torch.Tensor:
    return sparse_tensor(torch.tensor([indices]), values, 4)


def test_sparse_gradients_are_equal_where_they_stand_for_the_same() -> None:
    one = gradient([2, 0, 3], ROWS)
    for other in (gradient([2, 0, 3], ROWS.clone()), gradient([0, 3, 2], ROWS[[1, 2, 0]])):
        assert compare({NAME: other}, {NAME: one}).bitwise


def test_another_row_and_another_value_differ() -> None:
    one = gradient([2, 0, 3], ROWS)
    for other in (gradient([2, 1, 3], ROWS), gradient([2, 0, 3], ROWS + 1)):
        found = compare({NAME: other}, {NAME: one}).wrong
        assert found is not None
        assert "is off by" in str(found)


def test_a_dense_gradient_is_no_sparse_one() -> None:
    one = gradient([2, 0, 3], ROWS)
    found = compare({NAME: one.to_dense()}, {NAME: one}).wrong
    assert found is not None
    assert found.relative == math.inf
    assert "is float32[4, 2], in eager torch.sparse_coo float32[4, 2]" in str(found)
