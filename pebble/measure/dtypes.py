"""Precisions by the names that people give them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import torch

from pebble.arguments import one_of
from pebble.tracing import Captured
from pebble.tracing.signature import SlotKind

DTYPES: Mapping[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def dtype_of(name: str, argument: str = "precision") -> torch.dtype:
    """The dtype of a name; `argument` is what the caller calls it.

    Raises
    ------
    InvalidArgument
        If it is unknown; lists the choices.
    """
    return DTYPES[one_of(argument, name, DTYPES)]


def precision_of(captured: Captured) -> str:
    """The precision of a step in a word: of most of its weights, or of the autocast around it."""
    sizes: Counter[torch.dtype] = Counter()
    for slot in captured.slots:
        like = slot.node.meta["val"]
        if slot.kind is SlotKind.PARAMETER and like.is_floating_point():
            sizes[like.dtype] += like.numel()
    names = {dtype: name for name, dtype in DTYPES.items()}
    weights = sizes.most_common(1)[0][0] if sizes else torch.float32
    device = torch.device(captured.device).type
    for kind, enabled, dtype in captured.state.autocast:
        if kind == device and enabled and dtype is not weights:
            return f"{names.get(dtype, str(dtype))}-mixed"
    return names.get(weights, str(weights).removeprefix("torch."))


@contextlib.contextmanager
def under_autocast(tensors: Sequence[torch.Tensor], dtype: str | None) -> Iterator[None]:
    """Autocast of a dtype on the device of these tensors; nothing without a dtype."""
    if dtype is None:
        yield
        return
    device = tensors[0].device.type if tensors else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        device = "cpu"  # where no card is, torch switches a card's off; `capture` takes this for it
    with torch.autocast(device, dtype=dtype_of(dtype, "autocast")):
        yield
