"""What a training loop holds on the device beside the module that is planned."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from pebble.measure.optimizers import OptimizerMemory, Weight, optimizer_memory
from pebble.tracing.torch_private.pytree import tree_leaves
from pebble.tracing.torch_private.storages import storage_bytes, storage_id

SCALARS = 1024
"""Bytes for the losses and norms that a loop adds up."""


def bytes_on(things: Any, device: torch.device | str) -> int:
    """Bytes of the tensors in a batch that are on a device, each storage once."""
    tensors = [leaf for leaf in tree_leaves(things) if isinstance(leaf, torch.Tensor)]
    return storage_bytes(t for t in tensors if t.device.type == torch.device(device).type)


def outside_bytes(
    modules: Iterable[nn.Module],
    planned: nn.Module,
    optimizers: Sequence[str | torch.optim.Optimizer],
    device: torch.device | str,
) -> int:
    """Bytes of modules whose step is not planned: parameters, buffers, gradients, optimizer state.

    Parameters
    ----------
    modules : iterable of nn.Module
        All that the loop holds.
    planned : nn.Module
        What a plan counts by itself.
    optimizers : sequence of str or Optimizer
        Those that step over the parameters; names if there are none yet.
    device : device or str
    """
    known = {storage_id(t) for t in (*planned.parameters(), *planned.buffers())}
    held = list[torch.Tensor]()
    for module in modules:
        found = [*module.parameters(), *module.buffers()]
        held += (t for t in found if storage_id(t) not in known)
    outside = {id(p): p for p in held if isinstance(p, nn.Parameter) and p.requires_grad}
    trained = list(outside.values())
    total = bytes_on(held, device) + sum(p.nbytes for p in trained)
    inside = [p for p in planned.parameters() if p.requires_grad]
    for optimizer in optimizers if trained else ():
        both, inner = (
            _memory(optimizer, trained + inside, device),
            _memory(optimizer, inside, device),
        )
        # a plan counts what belongs to its own part, and all state that is there already
        total += max(both.state - inner.state, 0) + max(both.temporaries - inner.temporaries, 0)
    return total


def _memory(
    optimizer: str | torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    device: torch.device | str,
) -> OptimizerMemory:
    weights = [Weight(tuple(p.shape), p.dtype, p.stride()) for p in parameters]
    trained = frozenset(id(p) for p in parameters)
    return optimizer_memory(optimizer, weights, device=str(device), trained=trained)
