"""What a step may change of a model and its inputs, in Python and in tensors: kept and put back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

_DEPTH = 4
"""So deep are objects inside objects looked into."""
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_FOREIGN = ("torch", "numpy", "builtins")


class ModelState:
    """The contents of a model's modules and of other objects, as they are now.

    Parameters
    ----------
    model : nn.Module
    others : iterable
        Arguments of its forward, say.
    """

    def __init__(self, model: nn.Module, others: Iterable[Any] = ()) -> None:
        self._tensors: list[tuple[torch.Tensor, torch.Tensor, bool]] = []
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._others: list[tuple[Any, list[Any]]] = []
        self._seen: set[int] = set()
        self._plain: list[Any] = []
        for module in model.modules():
            self._look(vars(module), _DEPTH)
        for other in others:
            self._look(other, _DEPTH)

    def restore(self) -> None:
        """Put everything back: the same objects with the same contents."""
        for space, contents in self._dicts:
            if space.keys() != contents.keys() or any(space[k] is not contents[k] for k in space):
                space.clear()
                space.update(contents)
        for container, items in self._others:
            container.clear()
            if isinstance(container, set):
                container.update(items)
            else:
                container.extend(items)
        with torch.no_grad():
            for tensor, was, requires_grad in self._tensors:
                if tensor.is_leaf and tensor.requires_grad is not requires_grad:
                    tensor.requires_grad_(requires_grad)
                if not torch.equal(tensor.to(was.device), was):
                    tensor.data.copy_(was)

    def same_as(self, other: ModelState) -> bool:
        """Whether another state, of the same model, has the same contents."""
        if len(self._plain) != len(other._plain) or len(self._tensors) != len(other._tensors):
            return False
        return all(map(same_contents, self._plain, other._plain)) and all(
            same_contents(a[1], b[1]) for a, b in zip(self._tensors, other._tensors)
        )

    def _look(self, item: Any, depth: int) -> None:
        if isinstance(item, _PLAIN):
            self._plain.append(item)
            return
        if id(item) in self._seen or isinstance(item, (nn.Module, type)):
            return
        self._seen.add(id(item))
        if isinstance(item, torch.Tensor):
            self._keep(item)
        elif depth and isinstance(item, dict):
            self._dicts.append((item, dict(item)))
            self._look_at_all(item.values(), depth)
        elif depth and isinstance(item, (list, set, deque)):
            self._others.append((item, list(item)))
            self._look_at_all(item, depth)
        elif depth and isinstance(item, tuple):
            self._look_at_all(item, depth)
        elif depth and type(item).__module__.partition(".")[0] not in _FOREIGN:
            inside = getattr(item, "__dict__", None)
            if isinstance(inside, dict) and not callable(item):
                self._look(inside, depth - 1)

    def _look_at_all(self, items: Iterable[Any], depth: int) -> None:
        self._plain.append("[")  # so that what moved between containers is seen
        for item in list(items):
            self._look(item, depth - 1)

    def _keep(self, tensor: torch.Tensor) -> None:
        if tensor.layout is torch.strided and tensor.device.type != "meta":
            contents = tensor.detach().clone().cpu()
            self._tensors.append((tensor, contents, tensor.requires_grad))


def same_contents(a: Any, b: Any) -> bool:
    """Whether two tensors or plain values are equal, bit for bit; a NaN is one."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return (a.shape, a.dtype) == (b.shape, b.dtype) and bool(
            torch.equal(a, b) or ((a == b) | (a.isnan() & b.isnan())).all()
        )
    return type(a) is type(b) and (bool(a == b) or (a != a and b != b))
