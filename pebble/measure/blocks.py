"""Which submodules of a model are blocks: parts that can be run again as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import nn

from pebble.tracing.torch_private.modules import has_call_hooks

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_UNCALLED = (nn.ModuleList, nn.ModuleDict)
_LARGE_LEAVES = (nn.RNNBase, nn.RNNCellBase)
"""Leaves of torch that keep more than their inputs."""


def block_levels(model: nn.Module) -> list[tuple[str, ...]]:
    """Names of blocks that do not overlap, coarse ones first, each level finer than the last.

    The first level is made of the outermost repeated modules (what stands in a Sequential or a
    ModuleList), and of the model's other parts beside them.

    Examples
    --------
    >>> layer = lambda: nn.TransformerEncoderLayer(8, 2)
    >>> block_levels(nn.ModuleDict({"layers": nn.ModuleList([layer(), layer()])}))[0]
    ('layers.0', 'layers.1')
    """
    level = dict(_first_level(model, ""))
    levels: list[tuple[str, ...]] = []
    while level:
        names = _distinct(model, (name for name, m in level.items() if _is_block(m)))
        if names and names not in levels:
            levels.append(names)
        finer: dict[str, nn.Module] = {}
        for name, module in level.items():
            inner = dict(_children(module, name))
            finer |= inner or {name: module}
        if finer.keys() == level.keys():
            break
        level = finer
    return levels


_RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)


def is_recurrent(module: nn.Module) -> bool:
    """Whether it is one of torch's recurrent networks with several layers to run one by one."""
    return isinstance(module, nn.RNNBase) and type(module) in _RECURRENT and module.num_layers > 1


def reason_against(module: nn.Module) -> str | None:
    """Why a block may not be run again, as far as can be seen without running it."""
    if isinstance(module, torch.jit.ScriptModule) or hasattr(module, "_orig_mod"):
        return "is compiled"
    if any(has_call_hooks(inner) for inner in module.modules() if inner is not module):
        return "has hooks on modules inside of it, which would run again"
    if any(isinstance(inner, nn.SyncBatchNorm) for inner in module.modules()):
        return "talks to other processes (SyncBatchNorm)"
    return None


def parameters_fingerprint(model: nn.Module) -> str:
    """Hash of the names, shapes and dtypes of a model's parameters, and of which are trained."""
    parts = [
        f"{name} {tuple(p.shape)} {p.dtype} {p.requires_grad}"
        for name, p in model.named_parameters(remove_duplicate=False)
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _distinct(model: nn.Module, names: Iterator[str]) -> tuple[str, ...]:
    """Names of different modules, each once."""
    found: dict[int, str] = {}
    for name in names:
        found.setdefault(id(model.get_submodule(name)), name)
    return tuple(found.values())


def _first_level(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    for path, child in _children(module, name):
        repeated = isinstance(module, _CONTAINERS)
        if _is_group(child) or (not repeated and _holds_repeated(child)):
            yield from _first_level(child, path)
        else:
            yield path, child


def _children(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Children by path; those of a list or a dictionary, which nobody calls, in its place."""
    for key, child in module.named_children():
        path = f"{name}.{key}" if name else key
        if isinstance(child, _UNCALLED):
            yield from _children(child, path)
        else:
            yield path, child


def _is_group(module: nn.Module) -> bool:
    """Whether it is a Sequential of composite modules."""
    return isinstance(module, nn.Sequential) and any(_is_composite(c) for c in module.children())


def _holds_repeated(module: nn.Module) -> bool:
    """Whether somewhere inside stands a container of several composite modules."""
    return any(
        isinstance(inner, _CONTAINERS) and sum(map(_is_composite, inner.children())) > 1
        for inner in module.modules()
    )


def _is_composite(module: nn.Module) -> bool:
    return any(True for _ in module.children()) or isinstance(module, _LARGE_LEAVES)


def _is_block(module: nn.Module) -> bool:
    """Whether it may keep more than its inputs."""
    own = not type(module).__module__.startswith("torch.nn.")
    return own or _is_composite(module)
