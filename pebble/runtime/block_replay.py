"""A block's call that keeps its inputs only, and runs again in the backward as it ran before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pebble.errors import PlanMismatch
from pebble.measure.random_sources import RandomSources
from pebble.tracing.torch_private.autograd import version_of
from pebble.tracing.torch_private.pytree import tree_flatten, tree_unflatten

_COUNTING = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
)  # fmt: skip
"""Norms that write statistics in training which their own result does not read."""
_STORES = frozenset(vars(nn.Module())) - {"training"} | {"forward"}
"""What a module keeps its parts in; these stay where they are."""
_SMALL = 64
"""Entries of a list or dictionary up to which it is looked through."""


class BlockState:
    """What a block's modules hold at one moment: attributes, buffers, tensors' versions.

    Parameters
    ----------
    block : nn.Module
    """

    def __init__(self, block: nn.Module) -> None:
        self.modules = list(block.modules())
        self.spaces = [_attributes(module) for module in self.modules]
        self.buffers = [dict(_buffers(module)) for module in self.modules]
        self.parameters = list(block.parameters())
        self.versions = [(t, version_of(t)) for t in self._tensors()]
        self.contents = [
            (held, list(held.items() if isinstance(held, dict) else held))
            for space in self.spaces
            for held in space.values()
            if isinstance(held, (dict, list, set)) and len(held) <= _SMALL
        ]

    def written(self) -> str | None:
        """What was written to in place since, in words; statistics of batch norms left out."""
        for before, now in zip(self.parameters, self.modules[0].parameters(), strict=False):
            if before is not now:
                return "a parameter it holds"
        for tensor, version in self.versions:
            if version_of(tensor) != version:
                return f"a {'parameter' if tensor.requires_grad else 'tensor'} it holds"
        for held, items in self.contents:
            found = list(held.items() if isinstance(held, dict) else held)
            if len(found) != len(items) or not all(map(_alike, found, items)):
                return f"a {type(held).__name__} it holds"
        return None

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """The block as it was at that moment; afterwards as it is now."""
        now = [(_attributes(m), dict(_buffers(m))) for m in self.modules]
        try:
            for module, space, buffers in zip(self.modules, self.spaces, self.buffers):
                _put(module, space, _apart(module, space, buffers))
            yield
        finally:
            for module, (space, buffers) in zip(self.modules, now):
                _put(module, space, buffers)

    def _tensors(self) -> Iterator[torch.Tensor]:
        for module, space, buffers in zip(self.modules, self.spaces, self.buffers):
            yield from module.parameters(recurse=False)
            if not _counts(module):
                yield from (b for b in buffers.values() if b is not None)
            yield from (v for v in space.values() if isinstance(v, torch.Tensor))


class Replay:
    """One call of a block, to be run now and again in the backward.

    Parameters
    ----------
    name : str
        The block's, for messages.
    block : nn.Module
    run : callable
        Its forward, or a part of it.
    sources : RandomSources
        Beside torch's own generators, which the checkpoint keeps.
    around : callable
        Makes the context that it runs again in.
    """

    def __init__(
        self,
        name: str,
        block: nn.Module,
        run: Callable[..., Any],
        sources: RandomSources,
        around: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self.name, self.block, self.run = name, block, run
        self.sources, self.around = sources, around
        self.given: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The call, keeping its inputs only."""
        leaves, self.spec = tree_flatten((args, dict(kwargs)))
        self.given = (args, kwargs)
        del args, kwargs
        return checkpoint(self, *leaves, use_reentrant=False, context_fn=self._contexts)

    def __call__(self, *leaves: Any) -> Any:
        """Run it: the first time on the caller's own containers, then on equal ones."""
        if self.given is None:
            args, kwargs = tree_unflatten(list(leaves), self.spec)
        else:
            (args, kwargs), self.given = self.given, None
        return self.run(*args, **kwargs)

    def _contexts(self) -> tuple[Any, Any]:
        return self._first(), _Anew(self._again)

    @contextlib.contextmanager
    def _first(self) -> Iterator[None]:
        self.state, self.draws = BlockState(self.block), self.sources.states()
        yield
        written = self.state.written()
        if written is not None:
            raise PlanMismatch(
                f"Block {self.name!r} writes to {written} in this call, which it did not at "
                "planning: run again in the backward it would do so twice. Plan again with "
                "pebble.optimize."
            )

    @contextlib.contextmanager
    def _again(self) -> Iterator[None]:
        written = self.state.written()
        if written is not None:
            raise PlanMismatch(
                f"Block {self.name!r} was changed between its forward and its backward "
                f"({written} was written to), and its plan runs it again: call backward first."
            )
        draws = self.sources.states()
        self.sources.restore(self.draws)
        try:
            with self.around(), self.state.again():
                yield
        finally:
            self.sources.restore(draws)


class _Anew:
    """A context that may be entered more than once: each backward runs the call again."""

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self.make = make
        self.entered: list[AbstractContextManager[Any]] = []

    def __enter__(self) -> None:
        context = self.make()
        context.__enter__()
        self.entered.append(context)

    def __exit__(self, *raised: Any) -> bool | None:
        return self.entered.pop().__exit__(*raised)


def _attributes(module: nn.Module) -> dict[str, Any]:
    """What a module holds besides its stores."""
    return {k: v for k, v in vars(module).items() if k not in _STORES}


def _buffers(module: nn.Module) -> Mapping[str, torch.Tensor | None]:
    return dict(module.named_buffers(recurse=False))


def _counts(module: nn.Module) -> bool:
    return type(module) in _COUNTING and module.training


def _apart(
    module: nn.Module, space: Mapping[str, Any], buffers: dict[str, torch.Tensor | None]
) -> dict[str, torch.Tensor | None]:
    """Copies of the statistics that a norm would write to a second time."""
    if type(module) not in _COUNTING or not space["training"]:
        return buffers
    return {name: None if b is None else b.clone() for name, b in buffers.items()}


def _put(
    module: nn.Module, space: dict[str, Any], buffers: Mapping[str, torch.Tensor | None]
) -> None:
    """Give a module these attributes and buffers."""
    own = vars(module)
    for name in _attributes(module).keys() - space.keys():
        del own[name]
    own.update(space)
    for name, buffer in buffers.items():
        if getattr(module, name) is not buffer:
            setattr(module, name, buffer)


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return all(map(_alike, a, b))
    return a is b or (type(a) is type(b) and isinstance(a, (int, float, str)) and a == b)
