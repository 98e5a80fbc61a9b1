"""A training call without its plan is told, once for each reason; an evaluation call is not."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import pebble
from tests.runtime.following import Net, X, Y, planned

pytestmark = pytest.mark.usefixtures("one_thread", "seeded")


def other_batch(module: Any) -> None:
    module(X[:3], Y[:3])["loss"].backward()


def frozen_part(module: Any) -> None:
    module.head.requires_grad_(False)
    module(X, Y)["loss"].backward()


def hook_inside(module: Any) -> None:
    module.inner.register_forward_hook(lambda *_: None)
    module(X, Y)["loss"].backward()


def autocast(module: Any) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        module(X, Y)["loss"].backward()


def patched_submodule(module: Any) -> None:
    module.head.forward = types.MethodType(lambda self, x: 2 * x[:, :3], module.head)
    module(X, Y)["loss"].backward()


CALLS: dict[str, Callable[[Any], None]] = {
    r"shape \[5, 6\]": other_batch,
    "head.weight": frozen_part,
    "hook": hook_inside,
    "Autocast": autocast,
    "forward of 'head' was replaced": patched_submodule,
}


@pytest.mark.parametrize("reason", CALLS)
def test_what_runs_without_its_plan_is_told_once(reason: str) -> None:
    module = planned(Net(), X, Y, on_mismatch="eager")
    with pytest.warns(pebble.PlanNotInEffect, match=reason) as told:
        CALLS[reason](module)
        CALLS[reason](module)
    assert len(told) == 1
    assert told[0].filename == __file__
    assert pebble.status(module).unplanned_calls == 2


def test_evaluation_is_not_told() -> None:
    module = planned(Net(), X, Y, on_mismatch="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.no_grad():
            module(X[:2])
            module.inner(X)
        module.eval()
        module(X[:2])
        module.inner(X)
    assert pebble.status(module).unplanned_calls == 0


def test_training_after_a_plan_for_evaluation_mode_is_told() -> None:
    module = planned(Net().eval(), X, Y)
    module.train()
    with pytest.warns(pebble.PlanNotInEffect, match="planned in evaluation mode"):
        module(X, Y)["loss"].backward()


def test_a_class_whose_forward_is_replaced_is_another_model() -> None:
    class Scaled(nn.Linear):
        pass

    module = planned(Scaled(6, 3), X)
    module(X).sum().backward()
    Scaled.forward = lambda self, x: 2 * x @ self.weight.T  # type: ignore[method-assign]
    with pytest.raises(pebble.PlanMismatch, match="forward of Scaled was replaced"):
        module(X)


def test_a_global_hook_is_told_and_the_plan_kept() -> None:
    module = planned(Net(), X, Y)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        with pytest.warns(pebble.PebbleWarning, match="global module hook") as told:
            module(X, Y)["loss"].backward()
            module.zero_grad()
            module(X, Y)["loss"].backward()
    finally:
        handle.remove()
    assert len(told) == 1
    assert pebble.status(module).in_effect
