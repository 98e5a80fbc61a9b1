"""What a step without a graph keeps besides what it computes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from pebble.budget import Resident
from pebble.measure.memory import StepMemory, library_workspace
from pebble.measure.optimizers import Weight, optimizer_memory
from pebble.measure.rank_memory import ranks_here, resident_of
from pebble.ranks import Ranks
from pebble.tracing.inputs import Inputs
from pebble.tracing.torch_private.storages import storage_id


def module_memory(
    model: nn.Module,
    inputs: Inputs,
    optimizer: str | torch.optim.Optimizer | None,
    *,
    trained: Iterable[nn.Parameter],
    output_bytes: int,
    accumulates: bool = False,
    ranks: Ranks | None = None,
) -> Resident:
    """Bytes that no plan changes, each storage once, and the peak of the optimizer's step.

    Parameters
    ----------
    model, inputs, optimizer
    trained : iterable of Parameter
        Those that the step gives a gradient.
    output_bytes : int
        Held by the caller.
    accumulates : bool
        Whether gradients are there when the step begins.
    ranks : Ranks, optional
        Default: as torch.distributed is set up.
    """
    trained = list(trained)
    first = next((t for t in (*model.parameters(), *inputs.tensors())), torch.zeros(0))
    memory = optimizer_memory(
        optimizer,
        [Weight(tuple(p.shape), p.dtype, tuple(p.stride())) for p in trained],
        device=str(first.device),
        trained=frozenset(map(id, trained)),
    )
    seen: set[int] = set()
    kinds = {
        "parameters": _bytes(model.parameters(), seen),
        "buffers": _bytes(model.buffers(), seen),
        "constants": _bytes(_attributes(model), seen),
        "inputs": _bytes(inputs.tensors(), seen),
        "optimizer state": memory.state,
        "library workspace": library_workspace(str(first.device)),
    }
    gradients = sum(p.numel() * p.itemsize for p in trained)
    step = StepMemory(
        {kind: size for kind, size in kinds.items() if size or kind == "parameters"},
        gradients,
        output_bytes,
        memory,
    )
    return resident_of(step, model, ranks or ranks_here(), accumulates=accumulates)


def _attributes(model: nn.Module) -> Iterable[torch.Tensor]:
    """Tensors that modules hold under plain names."""
    held: Iterable[Any] = (v for m in model.modules() for v in vars(m).values())
    return (v for v in held if isinstance(v, torch.Tensor))


def _bytes(tensors: Iterable[torch.Tensor], seen: set[int]) -> int:
    total = 0
    for tensor in tensors:
        if tensor.layout is torch.strided and storage_id(tensor) not in seen:
            seen.add(storage_id(tensor))
            total += tensor.untyped_storage().nbytes()
    return total
