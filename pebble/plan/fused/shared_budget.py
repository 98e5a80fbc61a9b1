"""One budget for the compiled graphs that a model falls into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pebble.tracing.torch_private.storages import storage_id


@dataclass(frozen=True)
class Share:
    """What one graph needs, as far as the others must know.

    Attributes
    ----------
    parameters : mapping of int to int
        Bytes by storage.
    resident_bytes : int
        Parameters, buffers, inputs and optimizer state of this graph.
    peak_bytes : int
        The most that its forward and backward hold beside those.
    held_bytes : int
        What it holds between the two, outputs included.
    gradient_bytes : int
        Of its parameters: there while the graphs before it run backward.
    """

    parameters: Mapping[int, int] = field(repr=False)
    resident_bytes: int
    peak_bytes: int
    held_bytes: int
    gradient_bytes: int


class SharedBudget:
    """What the graphs of one model hold for one another.

    The forward runs graph after graph and the backward the other way round. So while one runs,
    those before it hold what they have saved, those after it their gradients, and the parameters
    of all are there; and between its forward and its backward those after it run.

    Graphs belong together if one is called while another waits for its backward.

    Parameters
    ----------
    budget_bytes : int

    Examples
    --------
    >>> shared = SharedBudget(100)
    >>> shared.begins("first"), shared.begins("second")
    (None, None)
    >>> shared.shares["first"] = Share({1: 10}, 10, 40, 30, 10)
    >>> shared.shares["second"] = Share({2: 5}, 5, 20, 8, 5)
    >>> shared.beside_bytes("second", {2: 5}), shared.later_bytes("first"), shared.peak_bytes
    (40, 20, 70)
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.shares: dict[Any, Share] = {}
        self.calls = 0
        self._before: dict[Any, dict[Any, None]] = {}
        self._waiting: dict[Any, None] = {}

    def begins(self, key: Any) -> None:
        """A graph is called for training."""
        self.calls += 1
        if key in self._waiting:  # a step whose backward never came
            self._waiting.clear()
        self._before.setdefault(key, {}).update(self._waiting)
        self._waiting[key] = None

    def ends(self, key: Any) -> None:
        """The backward of a graph begins."""
        self._waiting.pop(key, None)

    def earlier(self, key: Any) -> list[Any]:
        """Planned graphs that wait for their backward while this one runs."""
        return [other for other in self._before.get(key, {}) if other in self.shares]

    def later(self, key: Any) -> list[Any]:
        """Planned graphs that run while this one waits for its backward."""
        return [other for other in self.shares if key in self._before.get(other, {})]

    def beside_bytes(self, key: Any, parameters: Mapping[int, int]) -> int:
        """Bytes of other graphs that are there while a graph runs.

        Parameters
        ----------
        key : object
            Of the graph.
        parameters : mapping of int to int
            Its own, by storage.
        """
        earlier, later = self.earlier(key), self.later(key)
        others: dict[int, int] = {}
        for other in (*earlier, *later):
            others |= self.shares[other].parameters
        total = sum(size for storage, size in others.items() if storage not in parameters)
        total += sum(self.shares[other].held_bytes for other in earlier)
        return total + sum(self.shares[other].gradient_bytes for other in later)

    def later_bytes(self, key: Any) -> int:
        """The most that the graphs after one hold between its forward and its backward."""
        most = held = 0
        for other in self.later(key):
            share = self.shares[other]
            most = max(most, held + share.peak_bytes)
            held += share.held_bytes
        return most

    @property
    def peak_bytes(self) -> int:
        """The peak of the whole step with the graphs that are known."""
        return max((self._peak(key, share) for key, share in self.shares.items()), default=0)

    @property
    def is_kept(self) -> bool:
        """Whether the graphs that are known are within the budget together."""
        return self.peak_bytes <= self.budget_bytes

    def _peak(self, key: Any, share: Share) -> int:
        own = max(share.peak_bytes, share.held_bytes + self.later_bytes(key))
        return share.resident_bytes + own + self.beside_bytes(key, share.parameters)


def parameter_storages(tensors: Iterable[Any]) -> dict[int, int]:
    """Bytes of the parameters among some tensors, by storage."""
    return {
        storage_id(t): t.untyped_storage().nbytes() for t in tensors if isinstance(t, nn.Parameter)
    }


def gradient_bytes(tensors: Iterable[Any]) -> int:
    """Bytes of the gradients of the parameters among some tensors."""
    trained = (t for t in tensors if isinstance(t, nn.Parameter) and t.requires_grad)
    parameters: dict[int, torch.Tensor] = {id(t): t for t in trained}
    return sum(p.numel() * p.itemsize for p in parameters.values())
