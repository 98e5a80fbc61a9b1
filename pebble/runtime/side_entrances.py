"""Ways into a planned module past its forward: another method, or a module inside it.

Either way a submodule is looked up on the planned module while no forward of it runs. Whether it
is then called cannot be seen there, so it and what is inside it get a hook until then, or until
the next call of the planned module. A part that was called once may follow a plan of its own from
its next call on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from pebble.tracing.torch_private.pytree import tree_leaves

_IDLE_LOOKUPS = 8
"""So often a submodule is watched in vain; then it is looked up for its attributes."""


class PartsPlanned(Protocol):
    """Has parts of a planned module follow plans of their own."""

    def follow(
        self, owner: nn.Module, part: nn.Module, arrived: Callable[[], None]
    ) -> Callable[[], None] | None:
        """Have a part do so, until what is returned is called; None if it cannot.

        `arrived` is told of each of its calls.
        """


class SideEntrances:
    """The modules inside one planned module that are watched for calls.

    Parameters
    ----------
    told : callable
        Takes the class of the planned module, the name under which a part of it was called, and
        whether its next calls can follow a plan.
    """

    def __init__(self, told: Callable[[str, str, bool], None]) -> None:
        self.told = told
        self.handles: list[RemovableHandle] = []
        self.watched: set[str] = set()
        self.idle: dict[str, int] = {}
        self.called: set[str] = set()
        self.undo: list[Callable[[], None]] = []

    def watch(
        self, planned: nn.Module, name: str, found: nn.Module, parts: PartsPlanned | None
    ) -> None:
        """Wait for a call of a submodule that was just looked up."""
        if name in self.watched or self.idle.get(name, 0) >= _IDLE_LOOKUPS:
            return
        self.watched.add(name)
        owner = type(planned).__name__
        for path, module in list(found.named_modules(prefix=name)):
            if path in self.called and parts is not None:
                restore = parts.follow(planned, module, functools.partial(self._arrived, name))
                if restore is not None:
                    self.undo.append(restore)
                    continue
            hook = Watch(self, owner, name, path, parts is not None)
            self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def close(self) -> None:
        """Watch no longer, and have every part be what it was."""
        for name in self.watched:
            self.idle[name] = self.idle.get(name, 0) + 1
        self._remove()
        while self.undo:
            self.undo.pop()()

    def entered(self, hook: Watch) -> None:
        """A training call arrived at a watched module."""
        self._arrived(hook.name)
        self.called.add(hook.path)
        self.told(hook.owner, hook.path, hook.plannable)

    def _arrived(self, name: str) -> None:
        self.idle.pop(name, None)
        self._remove()

    def _remove(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        self.watched.clear()


class Watch:
    """A forward pre-hook that reports a training call. Copies of it, and pickled ones, are idle."""

    def __init__(
        self,
        entrances: SideEntrances | None,
        owner: str = "",
        name: str = "",
        path: str = "",
        plannable: bool = False,
    ) -> None:
        self.entrances = entrances
        self.owner = owner
        self.name = name
        self.path = path
        self.plannable = plannable

    def __reduce__(self) -> tuple[Any, ...]:
        return Watch, (None,)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Report it, unless a compiler reads along."""
        if self.entrances is None or torch.compiler.is_compiling():
            return
        if trains(module, args, kwargs):
            self.entrances.entered(self)


def trains(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether this is a training call through which a backward would come."""
    if not module.training or not torch.is_grad_enabled():
        return False
    given = (t for t in tree_leaves((args, dict(kwargs))) if isinstance(t, torch.Tensor))
    return any(t.requires_grad for t in given) or any(p.requires_grad for p in module.parameters())
