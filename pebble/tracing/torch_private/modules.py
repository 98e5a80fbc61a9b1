"""What hangs on an nn.Module: its children by key, and the hooks of a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def child_of(module: nn.Module, key: str) -> nn.Module | None:
    """The submodule that hangs under this key now, or None."""
    # `get_submodule` walks a path and raises; a guard asks thousands of times a step.
    return module._modules.get(key)


def forward_hooks(module: nn.Module) -> dict[int, Callable[..., Any]]:
    """The module's own forward hooks by their handles' numbers: the dictionary itself."""
    # Hooks are registered in public, and can be listed and put back only here.
    return module._forward_hooks
