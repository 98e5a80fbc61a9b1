"""What hangs on an nn.Module: children and tensors by key, and the hooks of a call.

The public ways walk a path and raise; a guard asks thousands of times a step. Hooks are registered
in public, and can be listed and put back only here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

_STORES = ("_parameters", "_buffers")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_SHARDING = ("__composable_api", "_is_fsdp_managed", "_fsdp_use_orig")


def child_of(module: nn.Module, key: str) -> nn.Module | None:
    """The submodule that hangs under this key now, or None."""
    return module._modules.get(key)


def store_of(module: nn.Module, key: str) -> str | None:
    """Which of the module's stores, of parameters or of buffers, has a tensor under this key."""
    return next((store for store in _STORES if key in vars(module)[store]), None)


def stored(module: nn.Module, store: str, key: str) -> torch.Tensor | None:
    """The tensor that a store of the module has under this key now, or None."""
    found: torch.Tensor | None = module.__dict__[store].get(key)
    return found


def forward_hooks(module: nn.Module) -> dict[int, Callable[..., Any]]:
    """The module's own forward hooks by their handles' numbers: the dictionary itself."""
    return module._forward_hooks


def has_call_hooks(module: nn.Module) -> bool:
    """Whether a call of the module runs any hook."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def has_global_hooks() -> bool:
    """Whether a call of any module at all runs a hook."""
    registry = torch.nn.modules.module
    return bool(
        registry._global_forward_hooks
        or registry._global_forward_pre_hooks
        or registry._global_backward_hooks
        or registry._global_backward_pre_hooks
    )


def call_hooks(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """The hooks that a call of the module runs, each with its kind in words."""
    for kind in _HOOKS:
        for hook in getattr(module, kind).values():
            yield kind.strip("_").replace("_", " "), hook


@contextlib.contextmanager
def hooks_kept(module: nn.Module) -> Iterator[None]:
    """After it the module has the hooks of a call that it had before, in their order."""
    before = {kind: dict(getattr(module, kind)) for kind in _HOOKS}
    try:
        yield
    finally:
        for kind, hooks in before.items():
            now: dict[int, Any] = getattr(module, kind)
            now.clear()
            now.update(hooks)


def drop_hooks(module: nn.Module, dropped: Callable[[Any], bool]) -> None:
    """Take those hooks off that a call of the module would run."""
    for kind in _HOOKS:
        hooks: dict[int, Any] = getattr(module, kind)
        for key in [key for key, hook in hooks.items() if dropped(hook)]:
            del hooks[key]


def without_hooks(module: nn.Module) -> dict[str, Any]:
    """What a module holds, with stores of its own that are empty: no hook, tensor or child.

    Nor what `fully_shard` leaves on it.
    """
    stores = ("_parameters", "_buffers", "_modules")
    fresh = vars(nn.Module())
    held = {k: v for k, v in vars(module).items() if not k.startswith(_SHARDING)}
    return (
        {name: fresh.get(name, value) for name, value in held.items()}
        | {name: fresh[name] for name in stores}
        | {"training": module.training}
    )
