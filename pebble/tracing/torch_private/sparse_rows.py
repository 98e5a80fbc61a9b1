"""Gradients of embeddings with sparse=True: ops on their rows, and how a trace comes by them.

Torch makes a sparse tensor of the rows and their indices, which has no one storage, and where
padding is left out a number of rows that depends on data. In a trace an op stands in for it that
makes a dense tensor; `pebble.tracing.sparse_gradients` puts the ops on rows in its place.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch._C import DispatchKey

from pebble.errors import CaptureError

aten = torch.ops.aten
_LOCK = threading.RLock()
_TABLE = "Tensor grad, Tensor indices, SymInt num_weights, SymInt padding_idx"
_BAGS = (
    "Tensor grad, Tensor indices, Tensor offsets, Tensor offset2bag, Tensor bag_size, "
    "Tensor maximum_indices, SymInt num_weights, bool scale_grad_by_freq, int mode, "
    "Tensor? per_sample_weights, SymInt padding_idx"
)
_library: Any = torch.library.Library("pebble", "FRAGMENT")  # type: ignore[no-untyped-call]


def sparse_tensor(indices: torch.Tensor, values: torch.Tensor, rows: int) -> torch.Tensor:
    """The gradient of a table of so many rows, as an embedding's backward makes it.

    Parameters
    ----------
    indices : int64 Tensor, shape (1, n)
    values : Tensor, shape (n, width)
    rows : int

    Examples
    --------
    >>> import torch
    >>> sparse_tensor(torch.tensor([[2, 0]]), torch.ones(2, 3), 4).to_dense().sum(1)
    tensor([3., 0., 3., 0.])
    """
    size = (rows, values.shape[1])
    return torch.sparse_coo_tensor(indices, values, size, check_invariants=False)


def parts(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The indices and values of a sparse tensor, as they are."""
    return tensor._indices(), tensor._values()


# -- ops -------------------------------------------------------------------------------------------


def _define(schema: str, real: Callable[..., Any] | None, fake: Callable[..., Any]) -> Any:
    name = schema.partition("(")[0]
    _library.define(schema)
    if real is not None:
        _library.impl(name, real, "CompositeExplicitAutograd")
    torch.library.register_fake(f"pebble::{name}", fake, lib=_library)
    return getattr(torch.ops.pebble, name).default


def _embedding_rows(grad: Any, indices: Any, rows: int, padding: int) -> Any:
    found = parts(aten.embedding_sparse_backward(grad, indices, rows, padding, False))
    return found[0], found[1].contiguous()


def _bag_rows(*args: Any) -> Any:
    *given, weights, padding = args
    made = aten._embedding_bag_backward(*given, True, weights, padding)
    return parts(made)


def _sum_of_rows(i: Any, v: Any, j: Any, w: Any, rows: int) -> Any:
    return parts(sparse_tensor(i, v, rows) + sparse_tensor(j, w, rows))


def _add_rows(dense: Any, indices: Any, values: Any) -> Any:
    return dense + sparse_tensor(indices, values, dense.shape[0])


def _table(grad: Any, indices: Any, rows: Any, *_: Any) -> Any:
    return grad.new_empty((rows, grad.shape[-1]))


def _bag_table(grad: Any, *args: Any) -> Any:
    return grad.new_empty((args[5], grad.shape[-1]))


def _values(grad: Any, indices: Any, *_: Any) -> Any:
    return grad.new_empty((indices.numel(), grad.shape[-1]))


def _all_rows(grad: Any, indices: Any, *_: Any) -> Any:
    ids = indices.new_empty((1, indices.numel()), dtype=torch.int64)
    return ids, _values(grad, indices)


def _both(i: Any, v: Any, j: Any, w: Any, _: Any) -> Any:
    n = i.shape[1] + j.shape[1]
    return i.new_empty((1, n)), v.new_empty((n, v.shape[1]))


# of a trace alone
EMBEDDING_BACKWARD = _define(f"sparse_embedding_backward({_TABLE}) -> Tensor", None, _table)
BAG_BACKWARD = _define(f"sparse_bag_backward({_BAGS}) -> Tensor", None, _bag_table)
# of a step: the rows that are no padding; those of a bag; sums as autograd makes them
EMBEDDING_ROWS = _define(
    f"embedding_rows({_TABLE}) -> (Tensor, Tensor)", _embedding_rows, _all_rows
)
BAG_ROWS = _define(f"bag_rows({_BAGS}) -> (Tensor, Tensor)", _bag_rows, _all_rows)
BAG_VALUES = _define(f"bag_values({_BAGS}) -> Tensor", lambda *args: _bag_rows(*args)[1], _values)
SUM_OF_ROWS = _define(
    "sum_of_rows(Tensor indices, Tensor values, Tensor more_indices, Tensor more_values, "
    "SymInt num_weights) -> (Tensor, Tensor)",
    _sum_of_rows,
    _both,
)
ADD_ROWS = _define(
    "add_rows(Tensor dense, Tensor indices, Tensor values) -> Tensor",
    _add_rows,
    lambda dense, *_: torch.empty_like(dense),
)


# -- in a trace ------------------------------------------------------------------------------------


@contextlib.contextmanager
def sparse_gradients_as_rows() -> Iterator[None]:
    """Within it the ops that stand in for sparse gradients of embeddings are traced."""
    with _LOCK, contextlib.ExitStack() as stack:
        for op, key, kernel in (
            (aten.embedding_sparse_backward.default, DispatchKey.CompositeImplicitAutograd, _noted),
            (aten._embedding_bag_backward.default, DispatchKey.Autograd, _noted_bag),
        ):
            stack.enter_context(_with_kernel(op, key, kernel))
        yield


def _noted(grad: Any, indices: Any, rows: Any, padding: Any, scale_grad_by_freq: bool) -> Any:
    if scale_grad_by_freq:
        raise CaptureError(
            "torch has no sparse gradient of an embedding with scale_grad_by_freq=True: its "
            "backward raises without a plan, too. Use sparse=False."
        )
    return EMBEDDING_BACKWARD(grad, indices, rows, padding)


def _noted_bag(*args: Any, **kwargs: Any) -> Any:
    sparse, weights, padding = args[9], args[10], args[11] if len(args) > 11 else -1
    if not sparse:
        with torch._C._AutoDispatchBelowAutograd():
            return aten._embedding_bag_backward.default(*args, **kwargs)
    return BAG_BACKWARD(*args[:9], weights, kwargs.get("padding_idx", padding))


@contextlib.contextmanager
def _with_kernel(op: Any, key: Any, kernel: Callable[..., Any]) -> Iterator[None]:
    before = op.py_kernels.get(key)
    op.py_kernels[key] = kernel
    op._dispatch_cache.clear()
    try:
        yield
    finally:
        if before is None:
            del op.py_kernels[key]
        else:
            op.py_kernels[key] = before
        op._dispatch_cache.clear()
