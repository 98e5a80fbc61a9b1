"""A model is planned in training mode, and keeps the mode that it stands in."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import pebble
from pebble.tracing.training_mode import in_modes, training_mode

X = torch.ones(6, 4)


class FrozenNorm(nn.Module):
    """Its normalisation stays in evaluation mode, whatever `train` is told."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.norm, self.drop = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)

    def train(self, mode: bool = True) -> FrozenNorm:
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.norm(self.mix(x)))


def test_a_loaded_model_is_planned_as_after_train_and_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4)).eval()
    with pytest.warns(pebble.PlanNotInEffect, match="Sequential is in evaluation mode") as told:
        plan = pebble.optimize(model, X, budget_gb=1, solver="keep_all")
    assert len(told) == 1
    assert not any(m.training for m in model.modules())
    assert plan.step is not None
    assert all(plan.step.captured.state.training.values())
    planned = plan.apply(model)
    planned.train()
    planned(X).sum().backward()
    assert pebble.status(planned).in_effect
    assert int(model[2].num_batches_tracked) == 1


def test_it_validates_as_the_step_that_was_planned() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 4)).eval()
    with pytest.warns(pebble.PlanNotInEffect):
        plan = pebble.optimize(model, X, budget_gb=1, solver="keep_all", optimizer=None)
    checked = plan.validate(model, repeats=1)
    assert checked.ok
    assert checked.exact
    assert not model.training


def test_train_means_what_the_model_says() -> None:
    model = FrozenNorm().eval()
    with pytest.warns(pebble.PlanNotInEffect), training_mode(model):
        assert model.drop.training
        assert not model.norm.training
    assert not model.drop.training


def test_submodules_of_a_model_in_training_mode_are_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4).eval())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = pebble.optimize(model, X, budget_gb=1, solver="keep_all")
    assert plan.step is not None
    assert dict(plan.step.captured.state.training) == {"": True, "0": True, "1": False}


def test_an_estimate_is_that_of_training() -> None:
    model = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.5), nn.Linear(64, 4))
    expected = pebble.estimate(model, X, optimizer=None).peak
    with pytest.warns(pebble.PlanNotInEffect):
        assert pebble.estimate(model.eval(), X, optimizer=None).peak == expected


def test_modes_by_name_are_put_back_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    with pytest.raises(KeyError), in_modes(model, {"0": False, "1": True}):
        assert [m.training for m in model] == [False, True]
        raise KeyError
    assert [m.training for m in model] == [True, False]


def test_an_exported_program_has_but_one_mode() -> None:
    program = torch.export.export(nn.Sequential(nn.Linear(4, 4)).eval(), (X,))
    with warnings.catch_warnings():
        warnings.simplefilter("error", pebble.PebbleWarning)
        assert pebble.optimize(program, X, budget_gb=1, solver="keep_all").peak_bytes > 0
