"""The place where whole steps of a model without a graph are run, each from the same state."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pebble.block_calls import BlockCall
from pebble.errors import InvalidArgument
from pebble.measure.loss_run import total
from pebble.measure.model_state import ModelState, same_contents
from pebble.measure.random_sources import RandomSources
from pebble.measure.step_timeline import Marker, Phase, StepTimeline, record_timeline
from pebble.runtime.bench import deterministic
from pebble.runtime.block_runner import BlockRunner
from pebble.tracing.inputs import Inputs
from pebble.tracing.output_templates import take_apart
from pebble.tracing.torch_private.pytree import tree_leaves
from pebble.tracing.torch_private.storages import storage_bytes


@dataclass(frozen=True)
class Blocks:
    """Which blocks a step is run with.

    Attributes
    ----------
    names : tuple of str
    chosen : frozenset of BlockCall
        Calls that keep their inputs only.
    layered : bool
        Recurrent networks run layer by layer.
    """

    names: tuple[str, ...] = ()
    chosen: frozenset[BlockCall] = frozenset()
    layered: bool = True


@dataclass(frozen=True)
class StepOutcome:
    """What a step leaves behind: outputs, gradients, the model's state and the random draws."""

    outputs: list[torch.Tensor]
    gradients: list[torch.Tensor | None]
    state: ModelState
    draws: torch.Tensor
    output_bytes: int
    gradient_bytes: int

    def same_as(self, other: StepOutcome) -> bool:
        """Whether two steps left the same behind, bit for bit."""
        return (
            len(self.outputs) == len(other.outputs)
            and all(map(same_contents, self.outputs, other.outputs))
            and all(map(same_contents, self.gradients, other.gradients))
            and self.state.same_as(other.state)
            and torch.equal(self.draws, other.draws)
        )


@dataclass(frozen=True)
class MeasuredStep:
    """One run of a step, weighed.

    Attributes
    ----------
    outcome : StepOutcome
    timeline : StepTimeline
    seconds : dict of BlockCall to float
        Of the forward of each call, as the profiler saw it.
    written : dict of str to str
        Blocks that wrote in place, and to what.
    """

    outcome: StepOutcome
    timeline: StepTimeline
    seconds: dict[BlockCall, float]
    written: dict[str, str]


class ModuleBench:
    """One model and its inputs, put back to the same state before every run.

    Parameters
    ----------
    model : nn.Module
    inputs : Inputs
    loss : callable or None
    accumulates : bool
        Whether gradients are there already.
    seed : int
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Inputs,
        loss: Callable[[Any], torch.Tensor] | None,
        *,
        accumulates: bool = False,
        seed: int = 0,
    ) -> None:
        self.model, self.inputs, self.loss, self.seed = model, inputs, loss, seed
        self.accumulates = accumulates
        self.differentiated = [
            t for t in (*model.parameters(), *inputs.tensors()) if t.requires_grad and t.is_leaf
        ]
        self.others = (inputs.args, dict(inputs.kwargs))
        self.state = ModelState(model, self.others)
        self.sources = RandomSources(model)
        self.draws = self.sources.states()
        tensors = (*model.parameters(), *inputs.tensors())
        self.device = next((t.device for t in tensors), torch.device("cpu"))

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Leave gradients, contents and random states as they were."""
        before = [t.grad for t in self.differentiated]
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            try:
                yield
            finally:
                self.reset(self.seed)
                for tensor, grad in zip(self.differentiated, before):
                    tensor.grad = grad

    def reset(self, seed: int) -> None:
        """No gradients (or zeros to add to), first contents, the seed's random state."""
        self.state.restore()
        for tensor in self.differentiated:
            tensor.grad = torch.zeros_like(tensor) if self.accumulates else None
        torch.clear_autocast_cache()
        torch.manual_seed(seed)
        self.sources.restore(self.draws)
        if seed != self.seed:
            self.sources.reseed(seed)

    def measured(self, blocks: Blocks, *, seed: int | None = None) -> MeasuredStep:
        """Run a step once: what it leaves behind, and what it held meanwhile."""
        self.reset(self.seed if seed is None else seed)
        watch = _Watch(self.device)

        def run(marker: Marker) -> Any:
            watch.marker = marker
            return self.step(blocks, watch)

        with deterministic():
            timeline = record_timeline(run, str(self.device))
        assert watch.output is not None
        return MeasuredStep(
            self._outcome(watch.output[0]), timeline, dict(watch.seconds), dict(watch.written)
        )

    def outcome(self, blocks: Blocks) -> StepOutcome:
        """Run a step once: what it leaves behind."""
        self.reset(self.seed)
        with deterministic():
            return self._outcome(self.step(blocks))

    def seconds(self, blocks: Blocks) -> tuple[float, dict[BlockCall, float]]:
        """Time of a step, and of each call's forward."""
        self.reset(self.seed)
        watch = _Watch(self.device)
        began = _now(self.device)
        self.step(blocks, watch)
        return _now(self.device) - began, dict(watch.seconds)

    def step(self, blocks: Blocks, watch: _Watch | None = None) -> Any:
        """Forward and backward; returns what the caller of the model holds."""
        runner = BlockRunner(blocks.names, blocks.chosen, layered=blocks.layered, observer=watch)
        with runner.in_place(self.model, _planned(blocks.chosen)):
            output = self.model(*self.inputs.args, **dict(self.inputs.kwargs))
        if watch is not None:
            watch.output = [output]
        loss = scalar_loss(self.loss, output)
        if loss.numel() != 1 or not loss.requires_grad:
            raise InvalidArgument(
                f"The loss of this {type(self.model).__name__} is no scalar that needs a gradient."
            )
        with contextlib.ExitStack() as stack:
            for device in {"cpu", self.device.type}:  # a loop leaves autocast before the backward
                stack.enter_context(torch.autocast(device, enabled=False))
            loss.backward()  # type: ignore[no-untyped-call]
        return output

    def _outcome(self, output: Any) -> StepOutcome:
        tensors = take_apart(output)[1]
        gradients = [t.grad for t in self.differentiated]
        return StepOutcome(
            [t.detach().clone() for t in tensors],
            [None if g is None else g.to_dense().clone() for g in gradients],
            ModelState(self.model, self.others),
            torch.get_rng_state(),
            storage_bytes(tensors),
            storage_bytes(g for g in gradients if g is not None and g.layout is torch.strided),
        )


class _Watch:
    """Sees the calls of a step: marks, times and writes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marker: Marker | None = None
        self.began: dict[BlockCall, float] = {}
        self.seconds: dict[BlockCall, float] = {}
        self.written: dict[str, str] = {}
        self.output: list[Any] | None = None

    def enters(self, at: BlockCall) -> None:
        if self.marker is not None:
            self.marker.mark(Phase.FORWARD, at)
        self.began[at] = _now(self.device)

    def leaves(self, at: BlockCall, output: Any, written: str | None) -> None:
        self.seconds[at] = _now(self.device) - self.began.pop(at)
        if written is not None:
            self.written.setdefault(at.block, written)
        marker = self.marker
        if marker is None:
            return
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor) and leaf.requires_grad and not leaf.is_leaf:
                hook: Any = leaf.register_hook
                hook(lambda grad: marker.mark(Phase.BACKWARD, at))


def scalar_loss(loss: Callable[[Any], torch.Tensor] | None, output: Any) -> torch.Tensor:
    """The scalar that a step is differentiated from.

    Parameters
    ----------
    loss : callable or None
        From the output to it. Default: its ``.loss``, else all its tensors that need a gradient,
        summed up.
    output : object
        What the model returned.
    """
    if loss is not None:
        return loss(output)
    own = getattr(output, "loss", None)
    if own is None and isinstance(output, Mapping):
        own = output.get("loss")
    if isinstance(own, torch.Tensor) and own.requires_grad:
        return own
    return total([t for t in take_apart(output)[1] if t.requires_grad])


def _planned(chosen: Collection[BlockCall]) -> dict[str, int]:
    """Every call of a measured step is planned."""
    return {at.block: 2**31 for at in chosen}


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
