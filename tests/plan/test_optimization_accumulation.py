"""Numbers of micro-batches that make no sense are refused where they are given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import pebble
from pebble.errors import InvalidArgument


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_senseless_numbers_of_micro_batches(steps: Any) -> None:
    with pytest.raises(InvalidArgument, match="accumulation_steps"):
        pebble.optimize(nn.Linear(2, 2), torch.ones(1, 2), budget_gb=1, accumulation_steps=steps)
