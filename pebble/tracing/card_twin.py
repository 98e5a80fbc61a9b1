"""A model and its call as they would lie on a card: copies without data, to be traced there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from pebble.cards import CARDS
from pebble.errors import InvalidArgument
from pebble.tracing.tensor_copies import TensorCopies
from pebble.tracing.torch_private.card_attention import attention_of_card
from pebble.tracing.torch_private.card_tables import lend_guard, pretended_card
from pebble.tracing.torch_private.fake_tensors import FakeTensorMode, fake_mode_of
from pebble.tracing.torch_private.pytree import tree_leaves
from pebble.tracing.torch_private.storages import storage_id

ON_CARD = "cuda"


@dataclass(frozen=True)
class CardTwin:
    """A copy of a model and its call on a card, without data.

    Tensors that were one object are one object, those that share memory share it. Nothing of the
    model is changed.

    Attributes
    ----------
    model : nn.Module
    args, kwargs
    loss : callable or None
    """

    model: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    loss: Any

    @classmethod
    def of(
        cls,
        model: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] = MappingProxyType({}),
        loss: Any = None,
    ) -> CardTwin:
        """The twin of a model and its call; they themselves where they lie on a card without data.

        Raises
        ------
        InvalidArgument
            If they cannot be copied.
        """
        modules = [m for m in (model, loss) if isinstance(m, nn.Module)]
        held = [t for m in modules for t in (*m.parameters(), *m.buffers())]
        given = [t for t in tree_leaves((args, dict(kwargs))) if isinstance(t, torch.Tensor)]
        if all(_lies_there(t) for t in (*held, *given)):
            return cls(model, args, dict(kwargs), loss)
        lend_guard()  # a parameter is a leaf of autograd as soon as it is made
        copies = _Placing(fake_mode_of(*held, *given) or FakeTensorMode())
        parameters = [p for m in modules for p in m.parameters()]
        try:
            made = TensorCopies(copies.on_card).copied(
                (model, args, dict(kwargs), loss), parameters, {}
            )
        except Exception as error:
            raise InvalidArgument(
                f"This {type(model).__name__} cannot be planned for a card from here, since a copy "
                f"of it without data cannot be made ({type(error).__name__}: {error}). Plan it "
                "without card=, on the card itself."
            ) from error
        return cls(*made)


@contextlib.contextmanager
def as_on(name: str) -> Iterator[None]:
    """Within it fake tensors on a card can be traced, with the kernels of this one.

    Autocast of the CPU stands for the card's: without a card torch switches that off.

    Parameters
    ----------
    name : str
        Of a card.
    """
    with pretended_card(), attention_of_card(CARDS[name].sm), _autocast_moved():
        yield


@contextlib.contextmanager
def _autocast_moved() -> Iterator[None]:
    kinds = "cpu", ON_CARD
    before = [(k, torch.is_autocast_enabled(k), torch.get_autocast_dtype(k)) for k in kinds]
    if before[0][1] and not before[1][1]:
        torch.set_autocast_enabled("cpu", False)
        torch.set_autocast_enabled(ON_CARD, True)
        torch.set_autocast_dtype(ON_CARD, before[0][2])
    try:
        yield
    finally:
        for kind, enabled, dtype in before:
            torch.set_autocast_enabled(kind, enabled)
            torch.set_autocast_dtype(kind, dtype)


def _lies_there(tensor: torch.Tensor) -> bool:
    return tensor.device.type == ON_CARD and fake_mode_of(tensor) is not None


class _Placing:
    """Makes tensors like others on a card, memory shared as it was."""

    def __init__(self, mode: FakeTensorMode) -> None:
        self.mode = mode
        self.storages: dict[int, torch.Tensor] = {}
        self.alive: list[torch.Tensor] = []  # or a storage's identity would come again

    def on_card(self, tensor: torch.Tensor) -> torch.Tensor:
        """One like this, a parameter if it is one."""
        if _lies_there(tensor):
            return tensor
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise TypeError(f"a tensor of layout {tensor.layout} has no copy without data")
        with self.mode, torch.no_grad():
            made = self._view(tensor)
        if isinstance(tensor, nn.Parameter):
            made = nn.Parameter(made, requires_grad=tensor.requires_grad)
            own = vars(made)  # a fake tensor's device is among them
            own.update({key: value for key, value in vars(tensor).items() if key not in own})
            return made
        return made.requires_grad_(tensor.requires_grad)

    def _view(self, tensor: torch.Tensor) -> torch.Tensor:
        key, size = storage_id(tensor), tensor.untyped_storage().nbytes()
        room = self.storages.get(key)
        if room is None:
            self.alive.append(tensor)
            made = _blank(tensor.shape, tensor.stride(), tensor.dtype)
            whole = made.untyped_storage().nbytes() == size and not tensor.storage_offset()
            self.storages[key] = made if whole else _blank((size,), (1,), torch.uint8)
            if whole:
                return made
            room = self.storages[key]
        if room.dtype is not tensor.dtype:
            flat = room.as_strided((room.untyped_storage().nbytes() // room.itemsize,), (1,), 0)
            room = flat.view(tensor.dtype)
        return room.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).detach()


def _blank(shape: Sequence[int], stride: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty_strided(tuple(shape), tuple(stride), dtype=dtype, device=ON_CARD)
