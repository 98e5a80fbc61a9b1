"""Tensors that share memory: refused where the step writes to it, and fine where it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pebble.errors import CaptureError
from pebble.tracing import capture
from pebble.tracing.shared_memory import share_memory
from pebble.tracing.signature import SlotKind
from tests.tracing.capturing import Function, X

BASE = torch.zeros(6, 8)

PAIRS: dict[str, tuple[torch.Tensor, torch.Tensor, bool]] = {
    "itself": (BASE, BASE, True),
    "a view": (BASE, BASE[2], True),
    "overlapping": (BASE[:4], BASE[2:], True),
    "halves": (BASE[:3], BASE[3:], False),
    "columns": (BASE[:, 0], BASE[:, 1], False),
    "crossing": (BASE[:, 1], BASE[2], True),
    "a block and a column": (BASE[:, :4], BASE[:, 5:], False),
    "other dtype": (BASE, BASE.view(torch.int32)[1], True),
    "empty": (BASE, BASE[:0], False),
    "others": (BASE, torch.zeros(6, 8), False),
}


@pytest.mark.parametrize("name", PAIRS)
def test_memory_is_shared_where_an_element_is(name: str) -> None:
    a, b, shared = PAIRS[name]
    assert share_memory(a, b) is shared
    assert share_memory(b, a) is shared


def test_two_tensors_of_one_array_share_it() -> None:
    array = torch.zeros(4).numpy()
    assert share_memory(torch.from_numpy(array), torch.from_numpy(array[2:]))


def writes_first(m: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a.add_(1.0)
    return m.first(a) + m.first(b)


def writes_buffer(m: Any, a: torch.Tensor) -> torch.Tensor:
    m.mean.add_(a.mean(0))
    return m.first(a) + m.mean


def with_buffer(function: Callable[..., torch.Tensor]) -> Function:
    model = Function(function)
    model.register_buffer("mean", torch.zeros(4, 8))
    return model


@pytest.mark.parametrize("view", [lambda x: x, lambda x: x.view(4, 8), lambda x: x.detach()])
def test_arguments_that_are_the_same_elements_are_one_tensor_to_a_step_that_writes(
    view: Callable[..., torch.Tensor],
) -> None:
    x = X.clone()
    captured = capture(Function(writes_first), (x, view(x)))
    (slot,) = (s for s in captured.slots if s.kind is SlotKind.INPUT)
    assert (slot.name, slot.aliases) == ("args[0]", ("args[1]",))


@pytest.mark.parametrize("view", [lambda x: x.t(), lambda x: x[1:]])
def test_a_write_to_one_of_two_overlapping_views_is_refused(
    view: Callable[..., torch.Tensor],
) -> None:
    x = torch.zeros(8, 8)
    with pytest.raises(CaptureError, match=r"args\[0\].*args\[1\].*Pass a copy"):
        capture(Function(lambda m, a, b: m.first(a.add_(1.0)).sum() + b.sum()), (x, view(x)))


def test_a_write_to_an_input_that_is_a_parameter_or_a_buffer_is_refused() -> None:
    model = with_buffer(lambda m, a: m.first(a.mul_(2.0)) + m.mean)
    with pytest.raises(CaptureError, match=r"'args\[0\]'.*shares memory with 'mean'"):
        capture(model, (model.mean,))
    model = with_buffer(writes_buffer)
    with pytest.raises(CaptureError, match=r"'mean'.*shares memory with 'args\[0\]'"):
        capture(model, (model.mean,))


def test_without_a_write_inputs_may_share_memory() -> None:
    x = X.clone()
    model = with_buffer(lambda m, a, b: m.first(a) * b + m.mean)
    for other in (x, x[:], model.mean):
        assert len(capture(model, (x, other)).gradients) == 2


def test_halves_of_one_tensor_may_be_written_to() -> None:
    x = torch.zeros(8, 8)
    captured = capture(Function(writes_first), (x[:4], x[4:]))
    assert any(output.name == "args[0]" for output in captured.outputs)
    with pytest.raises(CaptureError):
        capture(Function(writes_first), (x[:4], x[2:6]))
