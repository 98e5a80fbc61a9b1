"""Ways into a planned module past its forward: another method, or a module inside it.

Either way a submodule is looked up on the planned module while no forward of it runs. Whether it
is then called cannot be seen there, so it and what is inside it get a hook until then, or until
the next call of the planned module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from pebble.tracing.torch_private.pytree import tree_leaves

_IDLE_LOOKUPS = 8
"""So often a submodule is watched in vain; then it is looked up for its attributes."""


class SideEntrances:
    """The modules inside one planned module that are watched for calls.

    Parameters
    ----------
    told : callable
        Takes the class of the planned module and the name under which a part of it was called.
    """

    def __init__(self, told: Callable[[str, str], None]) -> None:
        self.told = told
        self.handles: list[RemovableHandle] = []
        self.watched: set[str] = set()
        self.idle: dict[str, int] = {}

    def watch(self, planned: nn.Module, name: str, found: nn.Module) -> None:
        """Wait for a call of a submodule that was just looked up."""
        if name in self.watched or self.idle.get(name, 0) >= _IDLE_LOOKUPS:
            return
        self.watched.add(name)
        owner = type(planned).__name__
        for path, module in found.named_modules(prefix=name):
            hook = Watch(self, owner, name, path)
            self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def close(self) -> None:
        """Watch no longer."""
        for name in self.watched:
            self.idle[name] = self.idle.get(name, 0) + 1
        self._remove()

    def entered(self, hook: Watch) -> None:
        """A training call arrived at a watched module."""
        self.idle.pop(hook.name, None)
        self._remove()
        self.told(hook.owner, hook.path)

    def _remove(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        self.watched.clear()


class Watch:
    """A forward pre-hook that reports a training call. Copies of it, and pickled ones, are idle."""

    def __init__(
        self, entrances: SideEntrances | None, owner: str = "", name: str = "", path: str = ""
    ) -> None:
        self.entrances = entrances
        self.owner = owner
        self.name = name
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Watch, (None,)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Report it, unless a compiler reads along."""
        if self.entrances is None or torch.compiler.is_compiling():
            return
        if module.training and torch.is_grad_enabled() and _learns(module, args, kwargs):
            self.entrances.entered(self)


def _learns(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a backward would come through this call."""
    given = (t for t in tree_leaves((args, dict(kwargs))) if isinstance(t, torch.Tensor))
    return any(t.requires_grad for t in given) or any(p.requires_grad for p in module.parameters())
