"""Dropout split into draw and scaling: the same bits, and masks are all that must be kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pebble
from pebble.runtime import build
from pebble.tracing import capture
from tests.runtime.schedules import everything_again

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


STRIDED = {
    "permuted": lambda t: t.permute(0, 2, 3, 1),
    "transposed and cut": lambda t: t.transpose(1, 3)[:, 1:3],
    "channels last": lambda t: t.contiguous(memory_format=torch.channels_last),
    "expanded": lambda t: t[:, :1].expand(4, 6, 8, 5),
    "expanded the other way": lambda t: t[:, :1].permute(2, 1, 0, 3).expand(8, 6, 4, 5),
}


@pytest.mark.parametrize("dropout", [nn.Dropout, nn.AlphaDropout, nn.Dropout2d])
@pytest.mark.parametrize("name", STRIDED)
def test_draws_for_strided_tensors_are_eager_s(name: str, dropout: type[nn.Module]) -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.weight = nn.Parameter(torch.randn(4, 6, 8, 5))
            self.drop = dropout(0.3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.drop(STRIDED[name](self.weight * x)) * 1.5).square().sum()

    model, twin, x = Drops(), Drops(), torch.randn(4, 6, 8, 5)
    captured = capture(model, (x,))
    module = build(model, captured, everything_again(captured.graph))
    torch.manual_seed(5)
    twin(x).backward()
    after = torch.rand(1)
    torch.manual_seed(5)
    module(x).backward()
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(model.weight.grad, twin.weight.grad)
