"""The mode that a model is planned in: its training mode, whatever mode it stands in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from pebble.errors import PlanNotInEffect
from pebble.notices import warn


@contextlib.contextmanager
def training_mode(model: Any) -> Iterator[None]:
    """A model as `model.train()` leaves it, and afterwards as it was.

    Only a model that is itself in evaluation mode changes, and is told of: submodules in evaluation
    mode inside a model in training mode (frozen normalisations, say) are meant.

    Examples
    --------
    >>> import warnings
    >>> model = nn.Dropout().eval()
    >>> with warnings.catch_warnings(action="ignore"), training_mode(model):
    ...     print(model.training)
    True
    >>> model.training
    False
    """
    if not isinstance(model, nn.Module) or model.training:  # an exported program has but one mode
        yield
        return
    before = {name: module.training for name, module in model.named_modules()}
    try:
        model.train()
    except NotImplementedError:  # the module of an exported program refuses train(), too
        yield
        return
    name = type(model).__name__
    warn(
        f"{name} is in evaluation mode, as loaded models are; its step is planned as after "
        f"{name}.train(). Call train() on the planned module before you train: in evaluation mode "
        "it runs without its plan.",
        PlanNotInEffect,
    )
    try:
        yield
    finally:
        set_modes(model, before)


@contextlib.contextmanager
def in_modes(model: nn.Module, wanted: Mapping[str, bool]) -> Iterator[None]:
    """A model whose modules are in given modes, by name; and afterwards as it was."""
    before = {name: module.training for name, module in model.named_modules()}
    set_modes(model, wanted)
    try:
        yield
    finally:
        set_modes(model, before)


def set_modes(model: nn.Module, wanted: Mapping[str, bool]) -> None:
    """Put the modules of a model in given modes, by name."""
    for name, module in model.named_modules():
        if module.training is not wanted.get(name, module.training):
            module.training = wanted[name]
