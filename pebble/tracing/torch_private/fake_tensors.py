"""Tensors without memory: recognised, made, and set aside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

# The only way to recognise fake tensors, and to make more of the same mode; and only torch's own
# switch out of a mode also restores its mode stack.
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily

__all__ = ["FakeTensorMode", "fake_mode_of", "outside_fake_mode"]


def fake_mode_of(*tensors: Any) -> FakeTensorMode | None:
    """The mode that the first fake one of the tensors belongs to; None if all are real."""
    return next((t.fake_mode for t in tensors if isinstance(t, FakeTensor)), None)


@contextlib.contextmanager
def outside_fake_mode() -> Iterator[None]:
    """Real tensors inside of a compiler's fake mode: to time and measure ops while it compiles."""
    with unset_fake_temporarily():
        yield
