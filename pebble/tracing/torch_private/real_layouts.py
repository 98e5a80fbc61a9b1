"""The strides that CPU kernels give their results, where torch's fake kernels say others.

A trace decides by strides whether ``reshape`` and ``linear`` copy; on those of a fake kernel that
errs it takes a view that the real tensor does not have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._prims_common import suggest_memory_format

from pebble.tracing.torch_private.fake_tensors import FakeTensorMode

aten = torch.ops.aten
Layout = Callable[..., torch.Tensor]


def _like(position: int) -> Layout:
    """Rows, or channels last where an argument is."""

    def layout(*args: Any) -> torch.Tensor:
        given = args[position]
        return torch.empty_like(given, memory_format=suggest_memory_format(given))

    return layout


def _rows(position: int) -> Layout:
    def layout(*args: Any) -> torch.Tensor:
        return torch.empty_like(args[position], memory_format=torch.contiguous_format)

    return layout


def _as_it_is(position: int) -> Layout:
    return lambda *args: torch.empty_like(args[position])


def _by_elements(first: int = 0, second: int = 1) -> Layout:
    """As of a kernel that goes over its arguments element by element, in this order."""
    return lambda *args: torch.add(args[first], args[second])


_LAYOUTS: dict[Any, tuple[Layout, tuple[int, ...]]] = {
    **dict.fromkeys(
        (
            aten.native_batch_norm.default,
            aten._native_batch_norm_legit.default,
            aten._native_batch_norm_legit.no_stats,
            aten._native_batch_norm_legit_functional.default,
            aten._batch_norm_with_update.default,
            aten._batch_norm_with_update_functional.default,
            aten._batch_norm_no_update.default,
        ),
        (_like(0), (0,)),
    ),
    aten.native_batch_norm_backward.default: (_like(1), (0,)),
    aten.batch_norm_backward.default: (_like(1), (0,)),
    aten.native_layer_norm_backward.default: (_rows(1), (0,)),
    aten._log_softmax_backward_data.default: (_rows(0), (0,)),
    aten.log_sigmoid_forward.default: (_rows(0), (0, 1)),
    aten.pow.Scalar: (_rows(1), (0,)),
    aten.mse_loss_backward.default: (_rows(1), (0,)),
    aten.smooth_l1_loss_backward.default: (_rows(1), (0,)),
    aten.huber_loss_backward.default: (_rows(1), (0,)),
    aten.binary_cross_entropy.default: (_as_it_is(0), (0,)),
    aten.binary_cross_entropy_backward.default: (_as_it_is(1), (0,)),
    **dict.fromkeys(
        (aten.threshold_backward.default, aten.leaky_relu_backward.default),
        (_by_elements(1, 0), (0,)),
    ),
    aten.elu_backward.default: (_by_elements(0, 5), (0,)),
    **dict.fromkeys(
        (
            aten.hardswish_backward.default,
            aten.hardsigmoid_backward.default,
            aten.hardtanh_backward.default,
            aten.softplus_backward.default,
            aten.logit_backward.default,
            aten.native_dropout_backward.default,
            aten.copysign.Tensor,
            aten.div.Tensor_mode,
            aten.floor_divide.default,
            aten.xlogy.Tensor,
            aten.logaddexp.default,
            aten.heaviside.default,
        ),
        (_by_elements(), (0,)),
    ),
}
"""Op -> what its results are laid out as, made of its arguments, and which results those are."""


@contextlib.contextmanager
def real_layouts() -> Iterator[None]:
    """Fake tensors on a CPU are laid out as real ones are."""
    plain = FakeTensorMode.dispatch

    def dispatch(
        self: FakeTensorMode, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = plain(self, func, types, args, kwargs or {})
        known = _LAYOUTS.get(func)
        if known is None or made is NotImplemented:
            return made
        with self:
            return _laid_out(made, args, *known)

    FakeTensorMode.dispatch = dispatch  # type: ignore[method-assign]
    try:
        yield
    finally:
        FakeTensorMode.dispatch = plain  # type: ignore[method-assign]


def _laid_out(made: Any, args: Any, layout: Layout, positions: tuple[int, ...]) -> Any:
    results = [made] if isinstance(made, torch.Tensor) else list(made)
    if not all(isinstance(results[i], torch.Tensor) and results[i].is_cpu for i in positions):
        return made
    wanted = layout(*args)
    moved = False
    for i in positions:
        result = results[i]
        if result.shape == wanted.shape and result.stride() != wanted.stride():
            results[i] = torch.empty_strided(
                wanted.shape, wanted.stride(), dtype=result.dtype, device=result.device
            )
            moved = True
    if not moved:
        return made
    if isinstance(made, torch.Tensor):
        return results[0]
    return made._make(results) if hasattr(made, "_make") else type(made)(results)
