"""The random states that a step may draw from, read and put back together."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class RandomStates:
    """States of torch's generators on the CPU and one device, of Python's and of numpy's.

    Examples
    --------
    >>> states = RandomStates.now(torch.device("cpu"))
    >>> before = torch.rand(1)
    >>> states.put_back()
    >>> bool(torch.rand(1) == before)
    True
    """

    device: torch.device
    cpu: torch.Tensor
    own: torch.Tensor | None
    python: Any
    numpy: Any

    @classmethod
    def now(cls, device: torch.device) -> RandomStates:
        """The states as they are."""
        numpy: Any = sys.modules.get("numpy")
        return cls(
            device,
            torch.get_rng_state(),
            torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            random.getstate(),
            None if numpy is None else numpy.random.get_state(),
        )

    def same_as(self, other: RandomStates) -> bool:
        """Whether nothing was drawn from torch's generators between the two."""
        if self.own is not None and other.own is not None and not torch.equal(self.own, other.own):
            return False
        return torch.equal(self.cpu, other.cpu)

    def put_back(self) -> None:
        """Make them the states again."""
        torch.set_rng_state(self.cpu)
        if self.own is not None:
            torch.cuda.set_rng_state(self.own, self.device)
        random.setstate(self.python)
        if self.numpy is not None:
            sys.modules["numpy"].random.set_state(self.numpy)


@contextlib.contextmanager
def random_states_kept(device: torch.device) -> Iterator[None]:
    """Leave all random states as they were."""
    states = RandomStates.now(device)
    try:
        yield
    finally:
        states.put_back()
