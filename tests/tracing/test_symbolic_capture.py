"""One trace for many sizes: eager's bits at each, and None where it does not hold."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pebble.errors import CaptureError
from pebble.runtime.planned_module import build
from pebble.schedule import Schedule
from pebble.tracing.step_form import StepForm
from pebble.tracing.symbolic_capture import SymbolicStep
from tests.plan.families.growing import Tiny, tokens

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")

OPEN = {"kwargs['input_ids']": (0, 1), "kwargs['labels']": (0, 1)}


def bits(model: nn.Module, kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    torch.manual_seed(5)
    model.zero_grad()
    loss = model(**kwargs)["loss"]
    loss.backward()
    return [loss.detach(), *[p.grad for p in model.parameters() if p.grad is not None]]


@pytest.mark.slow
def test_every_size_has_the_bits_of_eager() -> None:
    model = Tiny()
    symbolic = SymbolicStep.capture(model, (), tokens(4, 10), StepForm(), OPEN)
    for batch, length in ((4, 10), (2, 3), (7, 7), (3, 40)):
        call = tokens(batch, length)
        captured = symbolic.at(model, (), call)
        assert captured is not None
        planned = build(copy.deepcopy(model), captured, Schedule.keep_all(captured.graph))
        assert all(map(torch.equal, bits(planned, call), bits(model, call)))
    assert symbolic.at(model, (), tokens(1, 9)) is None  # one sample is broadcast
    uneven = tokens(3, 9) | {"labels": tokens(3, 8)["labels"]}
    assert symbolic.at(model, (), uneven) is None


def test_it_holds_as_far_as_its_conditions() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            y = self.layer(x)
            return {"loss": (y.tanh() if x.shape[0] > 6 else y.relu()).sum()}

    model, rows = Two(), {"kwargs['x']": (0,)}
    few = SymbolicStep.capture(model, (), {"x": torch.ones(3, 4)}, StepForm(), rows)
    assert few.at(model, (), {"x": torch.ones(6, 4)}) is not None
    assert few.at(model, (), {"x": torch.ones(7, 4)}) is None
    assert few.at(model, (), {"x": torch.ones(4, 4, requires_grad=True)}) is None
    assert few.at(model, (), {"x": torch.ones(4, 5).t()[:4]}) is None  # laid out otherwise


def test_sizes_are_numbers_of_the_graph() -> None:
    class Numbered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            rows = x.shape[0]
            return {"loss": (self.layer(x) * torch.arange(rows)[:, None]).view(rows, -1).sum()}

    model, call = Numbered(), {"x": torch.ones(5, 4)}
    symbolic = SymbolicStep.capture(
        model, (), {"x": torch.ones(3, 4)}, StepForm(), {"kwargs['x']": (0,)}
    )
    captured = symbolic.at(model, (), call)
    assert captured is not None
    planned = build(copy.deepcopy(model), captured, Schedule.keep_all(captured.graph))
    assert all(map(torch.equal, bits(planned, call), bits(model, call)))


def test_an_input_of_which_only_the_size_is_used() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": (self.layer(x) * y.shape[1]).sum()}

    model = Scaled()
    call = {"x": torch.ones(3, 4), "y": torch.ones(3, 7)}
    rows = {"kwargs['x']": (0,), "kwargs['y']": (1,)}
    try:
        symbolic = SymbolicStep.capture(model, (), call, StepForm(), rows)
    except CaptureError as error:  # releases that hand over the size and not the tensor
        assert "its size" in str(error)
        return
    other = call | {"y": torch.ones(3, 9)}
    captured = symbolic.at(model, (), other)
    assert captured is not None
    planned = build(copy.deepcopy(model), captured, Schedule.keep_all(captured.graph))
    assert all(map(torch.equal, bits(planned, other), bits(model, other)))


def test_a_size_that_goes_to_python_is_refused() -> None:
    class Told(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> dict[str, Any]:
            self.seen = x.shape[0]
            return {"loss": F.relu(self.layer(x)).sum()}

    with pytest.raises(CaptureError, match="traced for every shape"):
        SymbolicStep.capture(Told(), (), {"x": torch.ones(3, 4)}, StepForm(), {"kwargs['x']": (0,)})
