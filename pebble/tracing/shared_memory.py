"""Which tensors of a call share memory: a step that writes to one of them must know."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from pebble.errors import CaptureError
from pebble.tracing.signature import HELD, Output, OutputKind, Slot, SlotKind
from pebble.tracing.torch_private.fake_tensors import fake_mode_of
from pebble.tracing.torch_private.storages import storage_id

Span = tuple[int, int, int]
# How torch's tracer says it: the last two until 2.12.
_SAID_OF_VIEWS = (
    "share storage", "views of one another", "view input mutations", "input mutations on views",
)  # fmt: skip
_REAL = (torch.Tensor, nn.Parameter)  # known at a glance: calls are checked, too


def span_of(tensor: torch.Tensor) -> Span:
    """Where a tensor's elements lie: space, first byte, byte after the last.

    Two tensors can share memory only if they lie in one space and their bytes overlap. The space
    of real memory is 0; every fake storage is a space of its own.

    Examples
    --------
    >>> import torch
    >>> x = torch.zeros(4, 2)
    >>> (_, a, b), (_, c, d) = span_of(x), span_of(x[1:3])
    >>> b - a, c - a, d - a
    (32, 8, 24)
    """
    if tensor.layout is not torch.strided or tensor.numel() == 0:
        return (-1, 0, 0)
    plain = type(tensor) in _REAL or fake_mode_of(tensor) is None
    if plain:
        space, start = 0, tensor.data_ptr()
    else:
        space, start = storage_id(tensor), int(tensor.storage_offset()) * tensor.itemsize
    if tensor.is_contiguous():
        return space, start, start + tensor.numel() * tensor.itemsize
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride()))
    return space, start, start + (last + 1) * tensor.itemsize


def share_memory(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether an element of one tensor lies where one of the other does.

    Examples
    --------
    >>> import torch
    >>> x = torch.zeros(4, 2)
    >>> share_memory(x, x[3]), share_memory(x[:2], x[2:]), share_memory(x[:, 0], x[:, 1])
    (True, False, False)
    """
    one, other = span_of(a), span_of(b)
    if not spans_meet(one, other):
        return False
    gap = other[1] - one[1]
    if a.is_contiguous() or b.is_contiguous() or a.itemsize != b.itemsize or gap % a.itemsize:
        return True
    if one[1] > other[1]:
        return share_memory(b, a)
    # Columns of one matrix: their spans meet, their elements do not.
    size = (max(one[2], other[2]) - one[1]) // a.itemsize
    taken = torch.zeros(size, dtype=torch.bool)
    taken.as_strided(a.shape, a.stride()).fill_(True)
    return bool(taken.as_strided(b.shape, b.stride(), gap // a.itemsize).any())


def spans_meet(a: Span, b: Span) -> bool:
    """Whether two spans have a byte in common."""
    return a[0] == b[0] and a[1] < b[2] and b[1] < a[2]


class SharedWrite(CaptureError):
    """The forward writes to memory that two of its arguments have."""


@contextlib.contextmanager
def naming_views(model: nn.Module, inputs: Iterable[tuple[str, torch.Tensor]]) -> Iterator[None]:
    """Say which tensors are meant where torch's tracer stops at views that are written to."""
    try:
        yield
    except CaptureError as error:
        if not any(words in str(error) for words in _SAID_OF_VIEWS):
            raise
        given = list(inputs)
        held = [*given, *model.named_parameters(), *model.named_buffers()]
        for i, (name, tensor) in enumerate(given):
            for other, another in held[i + 1 :]:
                if share_memory(tensor, another):
                    raise _refusal(f"one of {name!r} and {other!r}, which share memory") from error
        raise


def check_written_alone(
    model: nn.Module,
    inputs: Iterable[tuple[str, torch.Tensor]],
    slots: Sequence[Slot],
    outputs: Sequence[Output],
) -> None:
    """Refuse a step that writes to a tensor of which the call has another view.

    Parameters
    ----------
    model : nn.Module
    inputs : iterable of (path, Tensor)
        The caller's own tensors.
    slots : sequence of Slot
        Of the traced step; a slot with several names is one tensor to it.
    outputs : sequence of Output
        Its updates say what is written to.

    Raises
    ------
    SharedWrite
    """
    updates = {output.name: output.kind for output in outputs if output.kind not in HELD}
    if not updates:
        return
    given = list(inputs)
    held: list[tuple[str, Any]] = [*model.named_parameters(), *model.named_buffers()]
    one = {slot.name: (slot.name, *slot.aliases) for slot in slots if slot.kind is SlotKind.INPUT}
    for name, kind in updates.items():
        is_input = kind is OutputKind.INPUT_UPDATE
        written = dict(given if is_input else held)[name]
        others = [(n, t) for n, t in given if not (is_input and n in one[name])]
        for other, tensor in others + (held if is_input else []):
            if share_memory(written, tensor):
                raise _refusal(f"{name!r}, which shares memory with {other!r}")


def _refusal(what: str) -> SharedWrite:
    return SharedWrite(
        f"The forward writes to {what}: a traced step keeps the two apart. Pass a copy of one of "
        "them (.clone()), or write to a copy in the forward."
    )
