"""Capture: which outputs are differentiated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pebble.errors import CaptureError
from pebble.tracing import OutputKind, capture
from tests.tracing.capturing import Function, X, agree


def test_first_output_by_default() -> None:
    captured = agree(Function(lambda self, x: (self.first(x), self.first(x) * 2)), (X,))
    assert [o.kind for o in captured.outputs] == [OutputKind.DIFFERENTIABLE, OutputKind.PLAIN]
    assert captured.loss is None


def test_loss_chooses_the_outputs_it_uses() -> None:
    target = torch.ones(4, 8)

    def loss(output: Any) -> torch.Tensor:
        return F.mse_loss(output["b"], target) + output["c"].mean()

    def forward(self: Any, x: torch.Tensor) -> Any:
        h = self.first(x)
        return {"a": h.exp(), "b": h, "c": h.tanh()}

    captured = agree(Function(forward), (X,), loss=loss)
    kinds = {o.name: o.kind for o in captured.outputs}
    assert kinds["['a']"] is OutputKind.PLAIN
    assert [t.name for t in captured.tangents] == ["['b']", "['c']"]
    assert captured.loss is loss


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda out: out, "scalar"),
        (lambda out: out.detach().sum(), "no output"),
        (lambda out: out["loss"], "fails"),
    ],
)
def test_wrong_losses_are_refused(loss: Any, words: str) -> None:
    with pytest.raises(CaptureError, match=words):
        capture(nn.Linear(8, 8), (X,), loss=loss)


def test_nothing_to_differentiate() -> None:
    model = nn.Linear(8, 8).requires_grad_(False)
    with pytest.raises(CaptureError, match="Unfreeze"):
        capture(model, (X,))
