"""A batch in micro-batches: how it is cut, and what each one weighs."""

from __future__ import annotations

import pytest
import torch

from pebble.errors import InvalidArgument
from pebble.finetune.micro_batch_splits import loss_weights, micro_batches


def test_uneven_micro_batches_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="a number that divides it"):
        list(micro_batches(torch.zeros(4, 2), 3))


def test_weights_count_the_tokens_that_are_used() -> None:
    labels = torch.tensor([[1, 2, 3], [1, -100, 3]])
    assert loss_weights(labels, 2) == [2 / 3, 1 / 3]
    assert loss_weights(labels, 2, shifted=False) == [3 / 5, 2 / 5]
    with pytest.raises(InvalidArgument, match="all are ignored"):
        loss_weights(torch.full((2, 3), -100), 2)
