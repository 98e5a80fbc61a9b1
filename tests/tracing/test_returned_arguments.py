"""Ops that return their very argument in eager do so in a plan, where a write shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.tracing.capturing import Function, X, agree


def dropout_then_add(m: Any, x: torch.Tensor) -> torch.Tensor:
    h = m.first(x)
    y = m.drop(h)
    y += 1
    return h * y


def written_before_and_after(m: Any, x: torch.Tensor) -> torch.Tensor:
    h = F.dropout(m.first(x), 0.0).mul_(2.0)
    y = F.dropout(h, 0.5, training=False)
    h.add_(3.0)
    return y * y.view(-1).sum()


def by_a_view(m: Any, x: torch.Tensor) -> torch.Tensor:
    h = m.first(x)
    m.drop(h)[0] = 0.25
    m.drop(m.drop(h)).view(-1)[8:].mul_(3.0)
    return h.sin()


def feature_dropout(m: Any, x: torch.Tensor) -> torch.Tensor:
    h = m.first(x)[None]
    F.dropout1d(h, 0.5, training=False).add_(1.0)
    F.alpha_dropout(h, 0.5).mul_(2.0)
    F.feature_alpha_dropout(h, 0.5, training=False).sub_(0.5)
    return h.exp()


FORWARDS = [dropout_then_add, written_before_and_after, by_a_view, feature_dropout]


@pytest.mark.parametrize("forward", FORWARDS, ids=lambda f: f.__name__)
def test_a_write_shows_on_both_sides(forward: Callable[..., torch.Tensor]) -> None:
    agree(Function(forward, drop=nn.Dropout(0.5).eval()), (X,))


def test_the_input_itself_is_written_to() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.drop(x)
        y += 1
        return m.first(x) + y

    captured = agree(Function(forward, drop=nn.Dropout(0.5).eval()), (X.clone(),))
    assert any(output.name == "args[0]" for output in captured.outputs)


def test_no_copy_stands_between_a_value_and_its_readers() -> None:
    def forward(m: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = m.first(x)
        y = m.drop(h)
        y = F.dropout(y, 0.0) * y.sin().cumsum(0) + y.flip(0)
        return y, h * 1.7

    captured = agree(Function(forward, drop=nn.Dropout(0.5).eval()), (X,))
    assert not any("clone" in op.kind for op in captured.graph.ops)
