"""Interpolation is one kernel forward and one backward, as in eager: same bits, exact bytes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pebble.measure.step import trace_step
from pebble.plan.optimization import plan_step
from pebble.tracing import capture

SIZES = {"linear": (20,), "trilinear": (6, 4, 9), "nearest-exact": (11, 7)}


class Enlarge(nn.Module):
    def __init__(self, mode: str, **more: Any) -> None:
        super().__init__()
        self.size = SIZES.get(mode, (14, 10))
        self.mode, self.more = mode, more
        self.first = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(self.size) - 1](3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.interpolate(self.first(x).tanh(), self.size, mode=self.mode, **self.more)
        return (y.sin() * y).mean()


def made(mode: str, **more: Any) -> tuple[Enlarge, torch.Tensor]:
    torch.manual_seed(0)
    model = Enlarge(mode, **more)
    return model, torch.randn(2, 3, *(7, 5, 4)[: len(model.size)])


@pytest.mark.parametrize(
    ("mode", "more"),
    [
        ("nearest", {}),
        pytest.param("nearest-exact", {}, marks=pytest.mark.slow),
        ("bilinear", {"align_corners": True}),
        ("bilinear", {"antialias": True}),
        ("bicubic", {}),
        pytest.param("linear", {}, marks=pytest.mark.slow),
        ("trilinear", {}),
    ],
)
def test_it_is_one_op_each_way(mode: str, more: dict[str, Any]) -> None:
    model, x = made(mode, **more)
    captured = capture(model, (x,))
    kinds = [op.kind for op in captured.graph.ops]
    assert sum("upsample" in kind for kind in kinds) == 2
    assert not any("index" in kind for kind in kinds)


@pytest.mark.parametrize(
    ("mode", "layout"),
    [
        ("bilinear", torch.channels_last),
        pytest.param("bilinear", torch.contiguous_format, marks=pytest.mark.slow),
        pytest.param("nearest", torch.channels_last, marks=pytest.mark.slow),
        pytest.param("nearest", torch.contiguous_format, marks=pytest.mark.slow),
    ],
)
def test_a_plan_leaves_eager_s_bits_in_the_predicted_bytes(
    mode: str, layout: torch.memory_format
) -> None:
    model, x = made(mode)
    step = trace_step(model.to(memory_format=layout), x.to(memory_format=layout), optimizer=None)
    report = plan_step(step, 10**9, solver="recompute_all").validate(repeats=1)
    assert report.ok_bitwise, report
    assert report.exact, report


def test_what_torch_does_for_compilers_is_back_afterwards() -> None:
    op = torch.ops.aten.upsample_bilinear2d.vec
    before = dict(op.py_kernels)
    model, x = made("bilinear")
    capture(model, (x,))
    assert before
    assert op.py_kernels == before
