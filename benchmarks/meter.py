"""The most bytes of tensors that a loop holds at once: forward, backward, planning, everything.

The allocator's own record cannot be kept over a loop that measures, for measuring keeps one itself.
So every op that runs is seen, and the storages that live then are added up; what an op holds only
while it runs is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Meter(TorchDispatchMode):
    """Within it, real storages are counted from the op that makes them until they are released.

    Parameters
    ----------
    held : iterable of Tensor
        There already: parameters, say.

    Attributes
    ----------
    peak : int
        Bytes.
    at : str
        The op after which they were held.

    Examples
    --------
    >>> with Meter() as meter:
    ...     made = torch.zeros(256).neg()
    >>> meter.peak
    2048
    """

    def __init__(self, held: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self.peak, self.at = 0, ""
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        for tensor in held:
            self._note(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        leaves = [t for t in tree_leaves((args, kwargs, made)) if isinstance(t, torch.Tensor)]
        new = [self._note(leaf) for leaf in leaves]
        if any(new):
            self._weigh(func)
        return made

    def _note(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor's storage is new."""
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.device.type == "meta":
            return False  # fake tensors and other subclasses
        if tensor.layout is not torch.strided:
            return False
        storage = tensor.untyped_storage()
        known = self._alive.get(storage._cdata)
        if known is not None and known[1] == storage.nbytes() and not known[0].expired():
            return False
        self._alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        return True

    def _weigh(self, what: Any) -> None:
        dead = [key for key, (storage, _) in self._alive.items() if storage.expired()]
        for key in dead:
            del self._alive[key]
        held = sum(size for _, size in self._alive.values())
        if held > self.peak:
            self.peak, self.at = held, str(what)
