"""How far two runs of a step agree: bit for bit, or up to rounding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

Tensors = Sequence[torch.Tensor | None]
_ROUNDING = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def same(a: Iterable[torch.Tensor | None], b: Iterable[torch.Tensor | None]) -> bool:
    """Whether all tensors are equal bit for bit, and absent in the same places.

    Examples
    --------
    >>> import torch
    >>> same([torch.ones(2), None], [torch.ones(2), None])
    True
    """
    return all(
        x is y if x is None or y is None else _equal(x, y) for x, y in zip(a, b, strict=True)
    )


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.dtype is not b.dtype or a.shape != b.shape:
        return False
    if torch.equal(a, b) or not a.is_floating_point():
        return torch.equal(a, b)
    return bool(((a == b) | (a.isnan() & b.isnan())).all())  # a NaN may be where a NaN was


def difference(found: Tensors, expected: Tensors) -> float:
    """The largest difference of two tensors, relative to the largest entry of the expected one.

    Examples
    --------
    >>> import torch
    >>> difference([torch.tensor([1.0, 4.0])], [torch.tensor([2.0, 4.0])])
    0.25
    """
    worst = 0.0
    for a, b in zip(found, expected):
        if a is None or b is None:
            worst = max(worst, float("inf") if (a is None) is not (b is None) else 0.0)
            continue
        scale = float(b.abs().max()) if b.numel() else 0.0
        if b.numel():
            worst = max(worst, float((a - b).abs().max()) / (scale or 1.0))
    return worst


def tolerance(found: Tensors) -> float:
    """What sums in another order may change of a gradient, relative to its largest entry."""
    dtypes = {t.dtype for t in found if t is not None}
    return max((_ROUNDING.get(dtype, 0.0) for dtype in dtypes), default=0.0)
