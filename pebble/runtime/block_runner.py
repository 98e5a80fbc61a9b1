"""A model's own forward with chosen calls of its blocks replayed in the backward."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from pebble.block_calls import BlockCall
from pebble.measure.blocks import is_recurrent
from pebble.measure.random_sources import RandomSources
from pebble.runtime.block_replay import BlockState, Replay
from pebble.runtime.recurrent_layers import run_layers


class Observer(Protocol):
    """Who is told of the calls of blocks while a step runs."""

    def enters(self, at: BlockCall) -> None:
        """A call begins."""

    def leaves(self, at: BlockCall, output: Any, written: str | None) -> None:
        """A call is over; `written`: what the block wrote to in place."""


@dataclass
class Running:
    """One call of the whole model: what it ran, and whether its backward began to run it again.

    Attributes
    ----------
    calls : dict
        How often each block was called.
    replayed : bool
    """

    calls: dict[str, int] = field(default_factory=dict)
    replayed: bool = False


class BlockRunner:
    """Runs a model with its blocks' calls watched, and the chosen ones replayed.

    Parameters
    ----------
    blocks : collection of str
        Names of submodules that do not overlap.
    chosen : collection of BlockCall
        Calls that keep their inputs only. Calls beyond those that were planned are treated as
        the last planned call of their block.
    layered : bool
        Recurrent networks of several layers run layer by layer.
    observer : Observer, optional
    """

    def __init__(
        self,
        blocks: Collection[str],
        chosen: Collection[BlockCall] = (),
        *,
        layered: bool = True,
        observer: Observer | None = None,
    ) -> None:
        self.blocks = tuple(blocks)
        self.chosen = frozenset(chosen)
        self.layered = layered
        self.observer = observer
        self.any = {(at.block, at.layer) for at in self.chosen}

    @contextlib.contextmanager
    def in_place(self, model: nn.Module, planned: Mapping[str, int]) -> Iterator[Running]:
        """Within it, calls of the model's blocks go through here.

        Parameters
        ----------
        planned : mapping of str to int
            How many calls of each block were planned; later ones are replayed where any is.
        """
        running = Running()
        sources = RandomSources(model) if self.chosen else None
        found: list[tuple[nn.Module, Any]] = []
        try:
            for name in self.blocks:
                block = model.get_submodule(name)
                own = vars(block).get("forward")
                found.append((block, own))
                call = _BlockForward(self, running, name, block, sources, planned.get(name, 0))
                vars(block)["forward"] = call
            yield running
        finally:
            for block, own in found:
                if own is None:
                    vars(block).pop("forward", None)
                else:
                    vars(block)["forward"] = own

    def replays(self, at: BlockCall, planned: int) -> bool:
        """Whether this call keeps its inputs only."""
        if at.call >= planned:
            return (at.block, at.layer) in self.any
        return at in self.chosen


class _BlockForward:
    """What stands in a block's place for its forward, while the model runs."""

    def __init__(
        self,
        runner: BlockRunner,
        running: Running,
        name: str,
        block: nn.Module,
        sources: RandomSources | None,
        planned: int,
    ) -> None:
        self.runner, self.running, self.name, self.block = runner, running, name, block
        self.own: Callable[..., Any] = block.forward
        self.sources, self.planned = sources, planned
        self.inside = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.inside or not torch.is_grad_enabled():
            return self.own(*args, **kwargs)
        number = self.running.calls.get(self.name, 0)
        self.running.calls[self.name] = number + 1
        self.inside = True
        try:
            if self.runner.layered and is_recurrent(self.block) and len(args) + len(kwargs) <= 2:
                return self._layers(number, *args, **kwargs)
            return self._run(BlockCall(self.name, number), self.own, args, kwargs)
        finally:
            self.inside = False

    def _layers(self, number: int, input: Any, hx: Any = None) -> Any:
        def run(layer: int, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
            return self._run(BlockCall(self.name, number, layer), function, args, {})

        assert isinstance(self.block, nn.RNNBase)
        return run_layers(self.block, input, hx, run)

    def _run(
        self,
        at: BlockCall,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        observer = self.runner.observer
        if observer is None:
            return self._plain_or_replayed(at, function, args, kwargs)
        before = BlockState(self.block)
        observer.enters(at)
        output = self._plain_or_replayed(at, function, args, kwargs)
        observer.leaves(at, output, before.written())
        return output

    def _plain_or_replayed(
        self,
        at: BlockCall,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        if self.sources is None or not self.runner.replays(at, self.planned):
            return function(*args, **kwargs)
        replay = Replay(self.name, self.block, function, self.sources, self._replaying)
        del function
        return replay.call(*args, **kwargs)

    @contextlib.contextmanager
    def _replaying(self) -> Iterator[None]:
        """While a call runs again; what it calls meanwhile is part of it."""
        inside, self.inside, self.running.replayed = self.inside, True, True
        try:
            yield
        finally:
            self.inside = inside
