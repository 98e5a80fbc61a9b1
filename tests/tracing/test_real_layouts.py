"""Fake tensors are laid out as the CPU's kernels lay out real ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pebble.tracing.torch_private.real_layouts import real_layouts
from tests.tracing.capturing import agree

aten = torch.ops.aten
SHAPE = (4, 5, 6)
ONE = torch.ones(5)

OPS: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "batch norm": lambda g, x: aten._native_batch_norm_legit_functional(
        x, ONE, ONE, ONE, ONE, True, 0.1, 1e-5
    )[0],
    "batch norm backward": lambda g, x: aten.native_batch_norm_backward(
        g, x, ONE, ONE, ONE, ONE, ONE, True, 1e-5, [True, True, True]
    )[0],
    "layer norm backward": lambda g, x: aten.native_layer_norm_backward(
        g, x, [6], torch.ones(4, 5, 1), torch.ones(4, 5, 1), None, None, [True, False, False]
    )[0],
    "elu": lambda g, x: aten.elu_backward(g, 1, 1, 1, False, x),
    "hardtanh": lambda g, x: aten.hardtanh_backward(g, x, -1, 1),
    "threshold": lambda g, x: aten.threshold_backward(g, x, 0),
    "dropout": lambda g, x: aten.native_dropout_backward(g, x > 0.5, 2.0),
    "floor": aten.floor_divide,
    "log softmax": lambda g, x: aten._log_softmax_backward_data(g, x, 1, torch.float32),
    "log sigmoid": lambda g, x: aten.log_sigmoid_forward(x)[0],
    "squares": lambda g, x: aten.mse_loss_backward(g, x, x, 0),
    "cross entropy": lambda g, x: aten.binary_cross_entropy_backward(g, x, x, None, 0),
    "sum": aten.add.Tensor,  # right without help
}


def in_order(order: tuple[int, ...]) -> torch.Tensor:
    """A tensor whose dimensions lie in memory in this order; () is one row, expanded."""
    if not order:
        return torch.rand(1, *SHAPE[1:]).expand(SHAPE)
    return torch.rand([SHAPE[i] for i in order]).permute([order.index(i) for i in range(3)])


ORDERS = [(), *itertools.permutations(range(3))]


@pytest.mark.parametrize("name", OPS)
def test_strides_are_those_of_the_kernel(name: str) -> None:
    for first, second in itertools.product(ORDERS, ORDERS):
        g, x = in_order(first), in_order(second)
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        with real_layouts(), mode:
            fake = OPS[name](mode.from_tensor(g), mode.from_tensor(x))
        assert fake.stride() == OPS[name](g, x).stride(), (first, second)


def test_torch_is_left_as_it_was() -> None:
    before = FakeTensorMode.dispatch
    with pytest.raises(ZeroDivisionError), real_layouts():
        assert FakeTensorMode.dispatch is not before
        raise ZeroDivisionError
    assert FakeTensorMode.dispatch is before


class TransposedNorm(nn.Module):
    """What follows it is copied where the real strides ask for it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix = nn.BatchNorm1d(6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mix(self.norm(x.transpose(1, 2)).transpose(1, 2).clone()).tanh()


def test_what_follows_a_norm_of_other_strides_is_traced_as_it_runs() -> None:
    captured = agree(TransposedNorm(), (torch.rand(SHAPE),))
    assert any("clone" in op.kind and "contiguous" in op.kind for op in captured.graph.ops)
