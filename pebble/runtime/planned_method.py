"""A method of a module that a planned module stands behind, put in its place."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from torch import nn


class PlannedMethod:
    """Takes the place of a method on one module; `leave` gives it back.

    A copy of the module, or a module that was saved, has its own method again.

    Parameters
    ----------
    module : nn.Module
    name : str
        Of the method.
    answer : callable
        What a call does.
    planned : PlannedModule
        That the answer calls, for `pebble.status`.
    """

    def __init__(
        self, module: nn.Module, name: str, answer: Callable[..., Any], planned: nn.Module
    ) -> None:
        self.module = module
        self.name = name
        self.answer = answer
        self.planned = planned
        self.before = module.__dict__.get(name)
        self.__wrapped__ = getattr(module, name)  # whoever reads its signature reads this one's
        module.__dict__[name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What stands behind it answers."""
        return self.answer(*args, **kwargs)

    def leave(self) -> None:
        """Give the module its own method back."""
        if self.module.__dict__.get(self.name) is self:
            del self.module.__dict__[self.name]
            if self.before is not None:
                self.module.__dict__[self.name] = self.before

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return _own(memo.get(id(self.module), self.module), self.name)

    def __reduce__(self) -> Any:
        return _own, (self.module, self.name)


def _own(module: nn.Module, name: str) -> types.MethodType:
    return types.MethodType(getattr(type(module), name), module)
