"""Interpolation stays the kernel that eager runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch._C import DispatchKey

_FOR_COMPILERS = (DispatchKey.Autograd, DispatchKey.CompositeImplicitAutograd)
_LOCK = threading.RLock()


@contextlib.contextmanager
def interpolation_in_one_kernel() -> Iterator[None]:
    """Trace interpolation as one op forward and one backward.

    torch takes it apart for compilers, which fuse it again. Run op by op, the parts are tens of
    kernels, hold several copies of the result at once, and round otherwise than eager.
    """
    with _LOCK, contextlib.ExitStack() as stack:
        for op in _interpolations():
            stack.enter_context(_as_built_in(op))
        yield


def _interpolations() -> Iterator[Any]:
    for name in dir(torch.ops.aten):
        if name.lstrip("_").startswith("upsample_") and "backward" not in name:
            packet = getattr(torch.ops.aten, name)
            yield from (getattr(packet, overload) for overload in packet.overloads())


@contextlib.contextmanager
def _as_built_in(op: Any) -> Iterator[None]:
    kernels = {key: op.py_kernels.pop(key) for key in _FOR_COMPILERS if key in op.py_kernels}
    op._dispatch_cache.clear()
    try:
        yield
    finally:
        op.py_kernels.update(kernels)
        op._dispatch_cache.clear()
