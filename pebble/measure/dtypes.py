"""Precisions by the names that people give them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch

from pebble.arguments import one_of

DTYPES: Mapping[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def dtype_of(name: str) -> torch.dtype:
    """The dtype of a name.

    Raises
    ------
    InvalidArgument
        If it is unknown; lists the choices.
    """
    return DTYPES[one_of("precision", name, DTYPES)]


@contextlib.contextmanager
def under_autocast(tensors: Sequence[torch.Tensor], dtype: str | None) -> Iterator[None]:
    """Autocast of a dtype on the device of these tensors; nothing without a dtype."""
    if dtype is None:
        yield
        return
    device = tensors[0].device.type if tensors else "cpu"
    with torch.autocast(device, dtype=dtype_of(dtype)):
        yield
