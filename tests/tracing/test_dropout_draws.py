"""Dropout split into draw and scaling: the same bits, and masks are all that must be kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pebble
from pebble.tracing import capture

aten = torch.ops.aten


@pytest.mark.parametrize("shape", [(3,), (4, 5), (64, 130)])
def test_the_two_ops_compute_what_the_one_did(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    torch.manual_seed(0)
    out, mask = aten.native_dropout(x, 0.1, True)
    after = torch.rand(1)
    torch.manual_seed(0)
    blank = torch.empty(shape, dtype=torch.bool)
    drawn = aten.bernoulli.p(blank, 0.9)
    assert torch.equal(mask, drawn)
    assert torch.equal(out, aten.native_dropout_backward(x, drawn, 1 / 0.9))
    assert torch.equal(after, torch.rand(1))


def test_only_the_draw_may_not_be_recomputed() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.2), nn.Linear(16, 1))
    captured = capture(model, (torch.randn(8, 16),))
    fixed = [
        op for op in captured.graph.ops if not op.recomputable and op.kind != "pebble.boundary"
    ]
    drawn = [op for op in captured.graph.ops if "bernoulli" in op.kind]
    assert len(drawn) == 1
    assert drawn[0] in fixed
    assert not any("native_dropout.default" in op.kind for op in captured.graph.ops)
    mask = captured.graph.values[drawn[0].outputs[0]]
    assert mask.size == 8 * 16  # one byte an element
    scaled = next(op for op in captured.graph.ops if "native_dropout_backward" in op.kind)
    assert scaled.recomputable


def test_a_plan_that_recomputes_through_dropout_keeps_every_bit() -> None:
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Dropout(0.3)) for _ in range(5)]
    model, x = nn.Sequential(*layers), torch.randn(256, 64)
    plan = pebble.optimize(model, x, budget_gb=1, optimizer=None, solver="recompute_all")
    assert any("native_dropout_backward" in name for name in plan.recomputed)
    report = plan.validate()
    assert report.ok_bitwise
    assert report.exact
