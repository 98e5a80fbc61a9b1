"""What users hand over as a model: brought to the module that can be traced, or refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import singledispatch
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from pebble.errors import InvalidArgument
from pebble.tracing.sharded import has_shards
from pebble.tracing.wrapped import inside

# Names, not classes: importing torch.distributed takes longer than a small capture.
_WRAPPERS = {
    "torch.nn.parallel.distributed": (
        "is wrapped in DistributedDataParallel by itself. Plan the module inside of it (its "
        ".module), or wrap the whole model instead"
    ),
    "torch.distributed.fsdp": (
        "is sharded by FSDP, which gathers parameters around each block while the step runs, so "
        "that no plan can reach over blocks. Plan block by block: "
        "pebble.integrations.distributed.budgeted_blocks, before or after fully_shard"
    ),
}

_LAZY = (
    "has parameters without a shape, which its first call makes. Call the model once on a batch "
    "(under torch.no_grad()), then plan it"
)

_COMPILED = (
    "is compiled already. Pass the model as it was before torch.compile (its _orig_mod), or "
    'compile with torch.compile(model, backend="pebble", options={"budget_gb": ...})'
)


@singledispatch
def plain(module: nn.Module) -> nn.Module:
    """The module itself, or what it was before pebble planned it.

    The planned module registers how; it stands above the tracer.
    """
    return module


def plannable(model: Any) -> nn.Module:
    """The module that can be traced of what a user calls the model.

    Of one in DistributedDataParallel it is the module inside: what the wrapper does around it, it
    goes on doing.

    Raises
    ------
    InvalidArgument
        If it is none, or wrapped in what a plan cannot stand for; says what to pass.
    """
    if isinstance(model, torch.export.ExportedProgram):
        model = model.module()
    model = inside(model)
    if not isinstance(model, nn.Module):
        raise InvalidArgument(
            f"The model is a {type(model).__name__}; pass a torch.nn.Module, a "
            "torch.fx.GraphModule or a torch.export.ExportedProgram."
        )
    found: nn.Module = plain(model)
    for name, module in found.named_modules():
        reason = _reason_against(module)
        if not name and hasattr(found, "_orig_mod"):
            reason = _COMPILED  # compiled parts are traced through
        if reason is not None:
            raise InvalidArgument(f"{f'Part {name!r} of the' if name else 'The'} model {reason}.")
    if has_shards(found):
        raise InvalidArgument(
            "The model has parameters that are sharded over ranks (DTensor): a plan counts and "
            "runs whole tensors. Plan the model before parallelize_module or distribute_tensor to "
            "see what it needs on one rank; blocks that fully_shard splits are planned by "
            "pebble.integrations.distributed.budgeted_blocks."
        )
    return found


def _reason_against(module: nn.Module) -> str | None:
    homes = [kind.__module__ for kind in type(module).__mro__]
    for place, reason in _WRAPPERS.items():
        if any(home == place or home.startswith(f"{place}.") for home in homes):
            return reason
    # a trace would draw them, at another random state than the first call of the loop
    own = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    if any(is_lazy(t) for t in own):
        return _LAZY
    return None


@contextlib.contextmanager
def plain_parts(model: nn.Module) -> Iterator[None]:
    """Within it no part of the model is a planned module: the plan to be made is for all of it."""
    found = [
        (*name.rpartition(".")[::2], module)
        for name, module in model.named_modules(remove_duplicate=False)
        if name and plain(module) is not module
    ]
    try:
        for place, key, part in found:
            setattr(model.get_submodule(place), key, plain(part))
        yield
    finally:
        for place, key, part in found:
            setattr(model.get_submodule(place), key, part)
