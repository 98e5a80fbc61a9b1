"""Models that FSDP2 shards: what they were, and what is sharded in them."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

from pebble.tracing.torch_private.modules import without_hooks


def is_sharded(module: nn.Module) -> bool:
    """Whether `fully_shard` was called on a module itself."""
    home = sys.modules.get("torch.distributed.fsdp")
    return home is not None and isinstance(module, home.FSDPModule)


def has_shards(module: nn.Module) -> bool:
    """Whether a module holds parameters that are sharded over ranks (DTensor)."""
    home = sys.modules.get("torch.distributed.tensor")
    return home is not None and any(isinstance(p, home.DTensor) for p in module.parameters())


def unsharded_twin(model: nn.Module) -> nn.Module:
    """A model of the un-sharded shapes, with the modules of a sharded one and numbers of its own.

    Nobody communicates for it. Buffers are copies, other attributes are shared.
    """
    generator = torch.Generator().manual_seed(0)
    return _twin(model, {}, generator)


def _twin(module: nn.Module, known: dict[int, Any], generator: torch.Generator) -> nn.Module:
    if id(module) in known:
        found: nn.Module = known[id(module)]
        return found
    twin: nn.Module = object.__new__(_own_class(module))
    known[id(module)] = twin
    twin.__dict__.update(without_hooks(module))
    for name, parameter in module.named_parameters(recurse=False):
        if id(parameter) not in known:
            known[id(parameter)] = _whole(parameter, generator)
        twin.register_parameter(name, known[id(parameter)])
    for name, buffer in module.named_buffers(recurse=False):
        twin.register_buffer(name, buffer.detach().clone())
    for name, child in module.named_children():
        twin.add_module(name, _twin(child, known, generator))
    return twin


def _own_class(module: nn.Module) -> type[nn.Module]:
    if not is_sharded(module):
        return type(module)
    order = type(module).__mro__
    place = order.index(sys.modules["torch.distributed.fsdp"].FSDPModule)
    own: type[nn.Module] = order[place + 1]
    return own


def _whole(parameter: nn.Parameter, generator: torch.Generator) -> nn.Parameter:
    drawn = torch.randn(parameter.shape, generator=generator, device="cpu").mul_(0.02)
    values = drawn.to(parameter.device, parameter.dtype)
    return nn.Parameter(values, requires_grad=parameter.requires_grad)
