"""Example inputs of other sizes."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pebble.tracing.inputs import Inputs
from pebble.tracing.resized_inputs import resized


def test_inputs_without_memory_are_resized_without_memory() -> None:
    with FakeTensorMode():
        ids, weights = torch.ones(2, 4, dtype=torch.long), torch.ones(4, 4, requires_grad=True)
    found = resized(Inputs((ids, weights), {"labels": ids}), 3, 5)
    first, second = found.args
    assert first is found.kwargs["labels"]
    assert (tuple(first.shape), tuple(second.shape)) == ((3, 5), (4, 5))
    assert first.dtype == torch.long and second.requires_grad
    assert type(first) is type(ids)


def test_what_is_real_is_repeated_and_cut() -> None:
    ids = torch.arange(8).reshape(2, 4)
    (found,) = resized(Inputs((ids,)), 3, 6).tensors()
    assert found.tolist() == [[0, 1, 2, 3, 0, 1], [4, 5, 6, 7, 4, 5], [0, 1, 2, 3, 0, 1]]
