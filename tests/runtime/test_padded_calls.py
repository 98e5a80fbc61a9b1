"""Calls that are rounded up leave the numbers of the call as it is, or are refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pebble
from pebble.errors import CaptureError, InvalidArgument
from pebble.measure.allocator import trace_memory
from pebble.plan.families.planners import planner_of
from pebble.tracing.symbolic_capture import SymbolicStep
from pebble.tracing.torch_private.storages import storage_bytes

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")
WORDS, WIDTH = 24, 8


@pytest.fixture(autouse=True)
def _no_open_traces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "open_traces" not in request.fixturenames:

        def refuse(*_: Any, **__: Any) -> None:
            raise CaptureError("for this test")

        monkeypatch.setattr(SymbolicStep, "capture", refuse)


@pytest.fixture
def open_traces() -> None:
    """Traces of open sizes are made as ever."""


class Reader(nn.Module):
    """Attention that minds a mask; its loss is a mean over what is not left out."""

    def __init__(self, *, masks: bool = True, p: float = 0.0, mean: bool = False) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(WORDS, WIDTH), nn.Linear(WIDTH, WORDS)
        self.drop, self.masks, self.mean = nn.Dropout(p), masks, mean

    def forward(
        self,
        input_ids: torch.Tensor,
        labels: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> dict[str, Any]:
        x = self.words(input_ids)
        scores = x @ x.transpose(1, 2)
        if attention_mask is not None and self.masks:
            scores = scores.masked_fill(attention_mask[:, None] == 0, float("-inf"))
        logits = self.head(x + self.drop(scores.softmax(-1)) @ x)
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return {"loss": loss + logits.mean() if self.mean else loss, "logits": logits}


def tokens(rows: int, length: int) -> dict[str, torch.Tensor]:
    ids = torch.arange(rows * length).reshape(rows, length) % WORDS
    return {"input_ids": ids, "labels": ids.clone()}


def gradients(module: nn.Module, call: dict[str, Any]) -> tuple[Any, list[torch.Tensor]]:
    module.zero_grad()
    output = module(**call)
    output["loss"].backward()
    return output, [p.grad.clone() for p in module.parameters() if p.grad is not None]


def planned(model: nn.Module, **options: Any) -> nn.Module:
    given = {"budget_gb": 1, "optimizer": None, "display": False, "pad_to": 16}
    return pebble.budgeted(model, **(given | options))


def test_numbers_are_those_of_the_call_and_few_shapes_are_traced() -> None:
    model = Reader()
    twin, module = copy.deepcopy(model), planned(model)
    for length in (9, 17, 20, 31, 32, 40, 47):
        output, found = gradients(module, tokens(3, length))
        expected, wanted = gradients(twin, tokens(3, length))
        torch.testing.assert_close(output["loss"], expected["loss"], rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(output["logits"], expected["logits"], rtol=1e-5, atol=1e-5)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert pebble.status(module).members == 4, "9 and 32 as they are, then 32 and 48"
    assert pebble.status(module).unplanned_calls == 0
    again = copy.deepcopy(module)
    assert gradients(again, tokens(3, 20))[0]["logits"].shape == (3, 20, WORDS)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mean": True}, "changes the loss"),
        ({"masks": False}, "changes the loss"),
        ({"p": 0.5}, "changes what is drawn at random"),
    ],
)
def test_what_padding_changes_is_refused(options: dict[str, Any], told: str) -> None:
    module = planned(Reader(**options))
    gradients(module, tokens(3, 9))
    held = [p.grad for p in module.parameters()]
    with pytest.raises(InvalidArgument, match=f"pad_to=16 {told}"):
        module(**tokens(3, 20))
    assert all(p.grad is grad for p, grad in zip(module.parameters(), held))
    gradients(module, tokens(3, 9))  # what was planned is followed as before


class Sized(Reader):
    def forward(self, **call: Any) -> dict[str, Any]:  # type: ignore[override]
        return {**super().forward(**call), "length": call["input_ids"].shape[1]}


def test_a_length_that_is_returned_is_refused() -> None:
    module = planned(Sized(masks=False))
    call = {**tokens(3, 9), "attention_mask": torch.ones(3, 9)}
    gradients(module, call)
    with pytest.raises(InvalidArgument, match="pad_to=16 changes"):
        module(**tokens(3, 20), attention_mask=torch.ones(3, 20))


def test_padded_steps_are_within_what_is_told_with_the_inputs_beside_them() -> None:
    module = planned(Reader())
    for length in (9, 20):
        gradients(module, tokens(64, length))
    batch = tokens(64, 20)

    def step() -> Any:
        output = module(**batch)
        output["loss"].backward()
        return output

    module.zero_grad()
    taken = trace_memory(step).peak
    module.zero_grad()
    whole = storage_bytes([*module.parameters(), *batch.values()]) + taken
    told = pebble.status(module).predicted_peak_bytes
    assert told is not None and whole <= told <= 1.1 * whole


def test_without_room_for_the_comparison_the_call_is_refused() -> None:
    model = Reader()
    alone = pebble.optimize(model, tokens(2, 32), budget_gb=1, optimizer=None, solver="keep_all")
    module = planned(model, budget_gb=None, budget_bytes=int(0.95 * alone.baseline_peak_bytes))
    gradients(module, tokens(2, 9))
    with pytest.raises(InvalidArgument, match="cannot be compared"):
        module(**tokens(2, 31))


@pytest.mark.usefixtures("open_traces")
def test_where_sizes_can_be_left_open_nothing_is_padded() -> None:
    module = planned(Reader(mean=True))
    for length in (9, 20, 31):
        gradients(module, tokens(3, length))
    assert planner_of(module).source.traces == 2


@pytest.mark.parametrize("pad_to", [0, -8, 2.5, "64", True])
def test_what_is_no_multiple_is_refused(pad_to: Any) -> None:
    with pytest.raises(InvalidArgument, match="pad_to"):
        planned(Reader(), pad_to=pad_to)


def test_not_together_with_what_it_does_not_serve() -> None:
    others: list[dict[str, Any]] = [
        {"background": True},
        {"execution": "inductor"},
        {"differentiate": "all"},
        {"loss": len},
    ]
    for options in others:
        with pytest.raises(InvalidArgument, match="pad_to"):
            planned(Reader(), **options)
