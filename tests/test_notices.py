"""A warning stands at the caller's line, once for each."""

from __future__ import annotations

import logging
import warnings

import pytest
import torch
from torch import nn

import pebble
from pebble.notices import warn


def test_it_stands_at_the_line_outside_of_pebble() -> None:
    with pytest.warns(pebble.PlanNotInEffect) as told:
        pebble.optimize(nn.Linear(4, 2).eval(), torch.ones(3, 4), budget_gb=1, solver="keep_all")
    assert [w.filename for w in told] == [__file__]


def test_nothing_swallows_what_the_logger_says() -> None:
    assert not any(isinstance(h, logging.NullHandler) for h in logging.getLogger("pebble").handlers)


def test_the_categories_are_one_family() -> None:
    for kind in (pebble.PlanNotInEffect, pebble.BudgetNotKept):
        assert issubclass(kind, pebble.PebbleWarning)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pebble.PebbleWarning)
            with pytest.raises(kind, match="why"):
                warn("why", kind)
