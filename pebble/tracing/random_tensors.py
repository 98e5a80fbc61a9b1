"""Tensors on a model's device, without data where the model has none."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn

from pebble.tracing.torch_private.fake_tensors import FakeTensorMode, fake_mode_of


def _place(model: Any) -> tuple[torch.device, FakeTensorMode | None]:
    """Where the model is, and whether it has data."""
    first = next(iter(model.parameters()), None) if isinstance(model, nn.Module) else None
    device = torch.device("cpu") if first is None else first.device
    return device, fake_mode_of(first)


def _generator(mode: FakeTensorMode | None) -> torch.Generator | None:
    return None if mode else torch.Generator().manual_seed(0)


def float_dtype(model: nn.Module) -> torch.dtype:
    """The dtype of the model's weights."""
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(floats, torch.get_default_dtype())


def random_integers(model: Any, shape: tuple[int, ...], high: int) -> torch.Tensor:
    """Integers below `high`, the same ones each time."""
    device, mode = _place(model)
    with mode or contextlib.nullcontext():
        return torch.randint(0, high, shape, generator=_generator(mode)).to(device)


def random_like(model: Any, shape: Any, dtype: torch.dtype) -> torch.Tensor:
    """Normal numbers, the same ones each time; zeros of an integer dtype."""
    device, mode = _place(model)
    with mode or contextlib.nullcontext():
        if not dtype.is_floating_point:
            return torch.zeros(tuple(shape), dtype=dtype, device=device)
        return torch.randn(tuple(shape), generator=_generator(mode)).to(device, dtype)
