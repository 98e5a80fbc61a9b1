"""Capture: which outputs are differentiated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pebble.errors import CaptureError, InvalidArgument
from pebble.tracing import Captured, OutputKind, capture
from tests.tracing.capturing import Function, X, agree

ROOT = OutputKind.DIFFERENTIABLE


def two(self: Any, x: torch.Tensor) -> Any:
    h = self.first(x)
    return {"loss": h.square().mean(), "states": {"deep": (h.exp(), None), "ids": x.argmax(-1)}}


def kinds(captured: Captured) -> list[OutputKind]:
    return [output.kind for output in captured.outputs]


def test_every_output_that_needs_a_gradient_by_default() -> None:
    captured = agree(Function(lambda self, x: (self.first(x), x, self.first(x) * 2)), (X,))
    assert kinds(captured) == [ROOT, OutputKind.PLAIN, ROOT]
    assert captured.loss is None


def test_the_models_own_loss_alone_by_default() -> None:
    assert kinds(agree(Function(two), (X,))) == [ROOT, OutputKind.CUT, OutputKind.PLAIN]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ("loss", [ROOT, OutputKind.CUT]),
        ("all", [ROOT, ROOT]),
        (("states",), [ROOT, ROOT]),
        (("states.deep[0]",), [ROOT, ROOT]),
        (("['states']['deep'][0]",), [ROOT, ROOT]),
        (("loss",), [ROOT, OutputKind.CUT]),
    ],
)
def test_differentiate_chooses_outputs(asked: Any, wanted: list[OutputKind]) -> None:
    captured = capture(Function(two), (X,), differentiate=asked)
    assert kinds(captured) == [*wanted, OutputKind.PLAIN]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("logits",), r"names 'logits', but the outputs .* loss, states\.deep\[0\], states\.ids"),
        (("state",), "names 'state', but"),
        (("states.ids",), "needs no gradient; those that do are loss, states"),
    ],
)
def test_wrong_names_list_those_there_are(asked: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        capture(Function(two), (X,), differentiate=asked)


def test_a_loss_that_is_not_there_cannot_be_asked_for() -> None:
    with pytest.raises(InvalidArgument, match=r"names no loss .* its outputs are \[0\], \[1\]"):
        capture(Function(lambda self, x: (self.first(x), x)), (X,), differentiate="loss")


def test_a_tensor_that_is_there_twice_is_one_output() -> None:
    def forward(self: Any, x: torch.Tensor) -> Any:
        h = self.first(x)
        return h, {"same": h}

    captured = capture(Function(forward), (X,))
    assert [output.name for output in captured.outputs] == ["[0]"]
    assert captured.rebuild(["a tensor"]) == ("a tensor", {"same": "a tensor"})


def test_loss_chooses_the_outputs_it_uses() -> None:
    target = torch.ones(4, 8)

    def loss(output: Any) -> torch.Tensor:
        return F.mse_loss(output["b"], target) + output["c"].mean()

    def forward(self: Any, x: torch.Tensor) -> Any:
        h = self.first(x)
        return {"a": h.exp(), "b": h, "c": h.tanh()}

    captured = agree(Function(forward), (X,), loss=loss)
    found = {o.name: o.kind for o in captured.outputs}
    assert found["['a']"] is OutputKind.CUT
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
