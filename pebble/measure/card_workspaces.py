"""Temporaries of a card's kernels, by what their sources allocate: nothing has been measured there.

Known are those that grow with the step. Not known: what cuDNN takes for a convolution, which it
chooses as it runs, and what sorts and scans take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from pebble.measure.sampling import value_of
from pebble.tracing.torch_private.operators import op_name

CUBLAS_HANDLES = 2
"""The forward's thread has one, and the thread in which autograd runs the backward another."""
_CUBLAS_BYTES, _CUBLAS_HOPPER_BYTES = 2 * 4096 * 1024 + 8 * 16 * 1024, 8 * 4096 * 1024
_SORTED_FROM = 3072
_FULL = 4


def cublas_bytes(sm: int) -> int:
    """What the handles of cuBLAS take of torch's allocator at their first use, and keep.

    Source: ``parseChosenWorkspaceSize`` in ``aten/src/ATen/cuda/CublasHandlePool.cpp``: ``:4096:2``
    and ``:16:8`` (KiB), and ``:4096:8`` on compute capability 9.0.

    Examples
    --------
    >>> cublas_bytes(75), cublas_bytes(90)
    (17039360, 67108864)
    """
    return CUBLAS_HANDLES * (_CUBLAS_HOPPER_BYTES if sm // 10 == 9 else _CUBLAS_BYTES)


def temporary_bytes(node: fx.Node) -> int:
    """Bytes that exist only while the kernel of an op runs, where they are known."""
    rule = _RULES.get(op_name(node.target))
    return 0 if rule is None else rule(node)


def _given(node: fx.Node, place: int) -> torch.Tensor:
    argument: Any = node.args[place]
    found: torch.Tensor = value_of(argument)
    return found


def _shape(node: fx.Node, place: int) -> tuple[int, ...]:
    return tuple(_given(node, place).shape)


def _flash_backward(node: fx.Node) -> int:
    """The gradient of the queries is added up in fp32, and keys' for each head of queries.

    Source: ``mha_bwd`` in ``transformers/cuda/flash_attn/flash_api.cpp``; cuDNN's is taken to be
    the same.
    """
    batch, heads, rows, width = _shape(node, 1)
    _, key_heads, keys, _ = _shape(node, 2)
    rounded = _up(rows, 128)
    added_up = batch * heads * rounded * _up(width, 32 if width <= 128 else 64) * _FULL
    sums = batch * heads * rounded * _FULL
    like = _given(node, 1)
    spread = 0 if key_heads == heads else 2 * batch * keys * heads * width * like.itemsize
    return added_up + sums + spread


def _efficient_backward(node: fx.Node) -> int:
    """The same, and a sum for each row.

    Source: ``workspace_elements_gq`` in ``mem_eff_attention/kernel_backward.h``, and ``delta`` in
    ``_efficient_attention_backward``.
    """
    batch, heads, rows, width = _shape(node, 1)
    return batch * heads * (_up(rows, 64) * _up(width, 64) + rows) * _FULL


def _embedding_backward(node: fx.Node) -> int:
    """Many indices are sorted, with their places, in memory of their own.

    Source: ``embedding_dense_backward_cuda`` in ``aten/src/ATen/native/cuda/Embedding.cu``.
    """
    indices = _given(node, 1)
    many = indices.numel() > _SORTED_FROM
    return 4 * indices.numel() * indices.itemsize if many else 0


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


_RULES: dict[str, Callable[[fx.Node], int]] = {
    "aten::_scaled_dot_product_flash_attention_backward": _flash_backward,
    "aten::_scaled_dot_product_cudnn_attention_backward": _flash_backward,
    "aten::_scaled_dot_product_efficient_attention_backward": _efficient_backward,
    "aten::embedding_dense_backward": _embedding_backward,
}
