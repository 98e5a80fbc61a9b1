"""Attention as a card runs it: its kernel, and what torch does to the arguments in front of it.

Where no card is, or another one, torch's own choice says nothing of the card that is planned for.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch._C import DispatchKey

from pebble.tracing.attention_kernels import FUSED, MATH, Attention, Libraries, kernel_for

aten = torch.ops.aten
_WHEELS_CUDNN = 91900
"""Of the wheels of torch 2.11 to 2.13 for cards; a build for CPUs has none."""
_MASK_UNIT, _HEAD_UNIT = 8, 8
_LOWEST_HALF = -65504.0
_lock = threading.RLock()


@contextlib.contextmanager
def attention_of_card(sm: int) -> Iterator[None]:
    """Trace attention of tensors on a card as one of this compute capability computes it.

    In the dispatcher's tables for Python, which are asked where a trace is made and nowhere else.

    Parameters
    ----------
    sm : int
        Such as 75.
    """
    op = aten.scaled_dot_product_attention.default
    key = DispatchKey.AutogradCUDA
    with _lock:
        before = op.py_kernels.get(key)
        op.py_kernels[key] = _Kernel(sm)
        op._dispatch_cache.clear()
        try:
            yield
        finally:
            op.py_kernels.pop(key)
            if before is not None:
                op.py_kernels[key] = before
            op._dispatch_cache.clear()


def libraries() -> Libraries:
    """What the choice of a kernel depends on in this process."""
    backends: Any = torch.backends.cuda
    cudnn: Any = torch.backends.cudnn
    allowed = {
        "flash": backends.flash_sdp_enabled(),
        "efficient": backends.mem_efficient_sdp_enabled(),
        "cudnn": backends.cudnn_sdp_enabled(),
        MATH: backends.math_sdp_enabled(),
    }
    major, minor = torch.__version__.split(".")[:2]
    return Libraries(
        (int(major), int(minor)),
        cudnn.version() or _WHEELS_CUDNN,
        frozenset(name for name, on in allowed.items() if on),
        torch.are_deterministic_algorithms_enabled()
        and not torch.is_deterministic_algorithms_warn_only_enabled(),
    )


class _Kernel:
    """What torch's composite of attention does, from its arguments to the kernel.

    Source: ``scaled_dot_product_attention`` in ``aten/src/ATen/native/transformers/attention.cpp``.
    """

    def __init__(self, sm: int) -> None:
        self.sm = sm

    def __call__(
        self,
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        call = Attention(query, key, value, attn_mask, dropout_p, is_causal, enable_gqa)
        known = libraries()
        name = kernel_for(call, self.sm, known)
        if name == "flash":
            return _flash(call, scale)
        lowest = -math.inf
        if name == "cudnn" and known.torch < (2, 12):
            lowest = _LOWEST_HALF
        mask = _added(attn_mask, query, lowest)
        if name == MATH:
            return aten._scaled_dot_product_attention_math.default(
                query, key, value, mask, dropout_p, is_causal, None, scale=scale,
                enable_gqa=enable_gqa,
            )[0]  # fmt: skip
        if name == "cudnn":
            return aten._scaled_dot_product_cudnn_attention.default(
                query, key, value, mask, call.trains, dropout_p, is_causal, False, scale=scale
            )[0]
        assert name in FUSED
        return aten._scaled_dot_product_efficient_attention.default(
            query, key, value, _aligned(mask, call), call.trains, dropout_p, is_causal, scale=scale
        )[0]


def _flash(call: Attention, scale: float | None) -> Any:
    """Flash attention, its heads as wide as a multiple of eight."""
    width = call.query.shape[-1]
    more = -width % _HEAD_UNIT
    tensors = call.tensors
    if more:
        tensors = tuple(aten.pad.default(t, [0, more]) for t in tensors)
    result = aten._scaled_dot_product_flash_attention.default(
        *tensors, call.dropout, call.causal, False, scale=scale or 1.0 / math.sqrt(width)
    )[0]
    return aten.slice.Tensor(result, -1, 0, width) if more else result


def _added(mask: Any, query: Any, lowest: float) -> Any:
    """A mask of booleans as numbers that are added to the scores."""
    if mask is None or mask.dtype is not torch.bool:
        return mask
    number = aten.scalar_tensor.default(lowest, dtype=query.dtype, device=mask.device)
    return aten.where.ScalarSelf(mask, 0.0, number)


def _aligned(mask: Any, call: Attention) -> Any:
    """A mask whose rows begin at multiples of eight, of the size of the scores."""
    if mask is None:
        return None
    strides = mask.stride()
    if strides[-1] != 1 or any(s % _MASK_UNIT for s in strides[:-1]):
        width = mask.shape[-1]
        padded = aten.pad.default(mask, [0, _MASK_UNIT - width % _MASK_UNIT])
        mask = aten.slice.Tensor(padded, -1, 0, width)
    batch, heads, rows, _ = call.query.shape
    return aten.expand.default(mask, [batch, heads, rows, call.key.shape[2]])
