"""What tensors share: views of one memory have one storage."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from pebble.tracing.torch_private.sparse_rows import parts


def storage_id(tensor: torch.Tensor | torch.UntypedStorage) -> int:
    """Identity of a tensor's storage; valid while the tensor is alive.

    Examples
    --------
    >>> import torch
    >>> x = torch.zeros(4)
    >>> storage_id(x) == storage_id(x[1:])
    True
    """
    storage = tensor if isinstance(tensor, torch.UntypedStorage) else tensor.untyped_storage()
    # `data_ptr` is 0 for every fake storage, and Python's wrappers of one storage come and go.
    return int(storage._cdata)


def storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the storages of tensors, each once; a sparse one has those of its parts.

    Examples
    --------
    >>> import torch
    >>> x = torch.zeros(4)
    >>> storage_bytes([x, x[1:], torch.zeros(1)])
    20
    """
    held = {storage_id(t): t.untyped_storage().nbytes() for each in tensors for t in _dense(each)}
    return sum(held.values())


def _dense(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return parts(tensor) if tensor.layout is torch.sparse_coo else (tensor,)
