"""What a capture lets go of: the call that it traced, and the model."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
import torch
from torch import nn

import pebble
from pebble.tracing.step_capture import capture


def _net() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1), nn.ReLU(), nn.Linear(8, 2))


def test_a_captured_step_does_not_hold_the_inputs_that_it_was_traced_with() -> None:
    net, x = _net(), torch.randn(4, 8)
    held = weakref.ref(x)
    gc.disable()  # on a card nobody would collect for as long as Python's own objects are few
    try:
        captured = capture(net, (x,))
        del x
        assert held() is None
    finally:
        gc.enable()
    assert captured.slots


def test_a_refused_step_does_not_hold_its_inputs() -> None:
    x = torch.randn(4, 8)
    held = weakref.ref(x)
    with pytest.raises(pebble.PebbleError):
        capture(_net(), (x,), loss=lambda output: output.no_such_attribute)
    del x
    gc.collect()
    assert held() is None


def test_the_first_batch_of_a_module_that_plans_by_itself_is_released() -> None:
    net = pebble.budgeted(_net(), budget_gb=1, display=False)
    batches = [torch.randn(4, 8) for _ in range(2)]
    held = weakref.ref(batches[0])
    net(batches.pop(0)).sum().backward()
    assert held() is None
    net(batches.pop(0)).sum().backward()
    assert pebble.status(net).planned_calls == 2


def test_a_model_can_be_released_after_its_plan() -> None:
    net = _net()
    plan = pebble.optimize(net, torch.randn(4, 8), budget_gb=1)
    plan.apply(net)(torch.randn(4, 8)).sum().backward()
    held = weakref.ref(net[0].weight)
    del net, plan
    gc.collect()
    assert held() is None


def test_a_capture_leaves_nothing_in_the_globals_of_a_model_s_code() -> None:
    names = set(vars(sys.modules[nn.Sequential.__module__]))
    for rows in (3, 4, 5):
        capture(_net(), (torch.randn(rows, 8),))
    left = set(vars(sys.modules[nn.Sequential.__module__])) - names
    assert not [name for name in left if "compiled" in name]
