"""What one rank holds of a model whose blocks FSDP2 shards, besides what its step computes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import torch
from torch import nn

from pebble.budget import Resident
from pebble.measure.optimizers import Weight, optimizer_memory
from pebble.tracing.inputs import Inputs
from pebble.tracing.torch_private.storages import storage_bytes


def shard_memory(
    model: nn.Module,
    blocks: Sequence[nn.Module],
    inputs: Inputs,
    optimizer: str | torch.optim.Optimizer | None,
    *,
    ranks: int,
    accumulates: bool = False,
) -> Resident:
    """Bytes that no plan changes on a rank, and the peak of the optimizer's step there.

    Parameters
    ----------
    model : nn.Module
        Of the un-sharded shapes.
    blocks : sequence of nn.Module
        Those that are sharded by themselves; the rest is the root's group.
    inputs : Inputs
        Of this rank.
    optimizer : str, Optimizer or None
    ranks : int
    accumulates : bool
        Whether micro-batches come without a reduction (`set_requires_gradient_sync`), so that
        gradients of all blocks stay whole until the last.

    Notes
    -----
    A group is gathered into one flat buffer, which the parameters are copied out of. In the forward
    that buffer lives until the next group is copied out; in the backward the next group is gathered
    ahead. So besides the root's, two groups are there at a time. The flat input of a
    reduce-scatter lives until the next one. Its outputs are the sharded gradients.
    """
    groups = [list(block.parameters()) for block in blocks]
    inside = {id(p) for group in groups for p in group}
    root = [p for p in model.parameters() if id(p) not in inside]
    whole = [p for group in (root, *groups) for p in group]
    trained = [p for p in whole if p.requires_grad]
    device = str(next((t.device for t in (*whole, *inputs.tensors())), "cpu"))
    state = optimizer_memory(
        optimizer, [_shard(p, ranks) for p in trained], device=device, trained=None
    )
    gradients = sum(_padded(p, ranks) for p in trained) // ranks
    kinds = {
        "parameters": sum(_padded(p, ranks) for p in whole) // ranks,
        "buffers": storage_bytes(list(model.buffers())),
        "inputs": storage_bytes(inputs.tensors()),
        "optimizer state": state.state,
        "sharded gradients": gradients,
        "gathered parameters": _group(root, ranks) + 2 * max(_group(g, ranks) for g in groups),
        "reduce-scatter": max(_trained(g, ranks) for g in (root, *groups)),
    }
    if accumulates:
        kinds["accumulated gradients"] = sum(p.nbytes for p in trained)
    kept = ("parameters", "buffers", "inputs", "optimizer state", "sharded gradients")
    peak = sum(kinds[kind] for kind in kept) + state.temporaries
    sizes = {kind: size for kind, size in kinds.items() if size}
    return Resident(sizes, 0 if state.name == "none" else peak)


def _group(parameters: Iterable[nn.Parameter], ranks: int) -> int:
    return sum(_padded(p, ranks) for p in parameters)


def _trained(parameters: Iterable[nn.Parameter], ranks: int) -> int:
    return _group((p for p in parameters if p.requires_grad), ranks)


def _padded(parameter: nn.Parameter, ranks: int) -> int:
    """Bytes with the first dimension filled up, so that every rank has as many rows."""
    return prod(_shard(parameter, ranks).shape) * parameter.itemsize * ranks


def _shard(parameter: nn.Parameter, ranks: int) -> Weight:
    rows, *rest = parameter.shape or (1,)
    shape = (-(-rows // ranks), *rest)
    return Weight(shape, parameter.dtype, torch.empty(shape, device="meta").stride())
