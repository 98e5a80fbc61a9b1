"""The place where steps of one model are run, timed and weighed, each from the same state."""

from __future__ import annotations

import contextlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pebble.measure.allocator import AllocatorTrace, trace_memory
from pebble.tracing.captured import Captured
from pebble.tracing.inputs import Inputs
from pebble.tracing.output_templates import take_apart
from pebble.tracing.torch_private.storages import storage_bytes

_CACHE = "kwargs['use_cache']"


@dataclass(frozen=True)
class StepResults:
    """What a step leaves behind: outputs, gradients and buffers, copied."""

    outputs: list[torch.Tensor]
    gradients: list[torch.Tensor | None]
    buffers: list[torch.Tensor]


class Bench:
    """One model and its inputs, put back to the same state before every run.

    Parameters
    ----------
    model : nn.Module
    captured : Captured
        Of this model on inputs of these shapes.
    inputs : Inputs
        Of the model.
    seed : int
        Of the random state before each run.
    """

    def __init__(self, model: nn.Module, captured: Captured, inputs: Inputs, seed: int) -> None:
        self.model = model
        self.captured = captured
        self.seed = seed
        self.args, self.kwargs = inputs.args, dict(inputs.kwargs)
        if _CACHE in captured.state.constants:  # eager, too, runs without a cache
            self.kwargs.setdefault("use_cache", captured.state.constants[_CACHE])
        self.inputs = inputs.tensors()
        self.held = [*model.parameters(), *model.buffers()]
        self.differentiated = [
            t for t in (*model.parameters(), *self.inputs) if t.requires_grad and t.is_leaf
        ]
        self.contents = [t.detach().clone() for t in (*self.held, *self.inputs)]
        self.device = torch.device(captured.device)

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Leave gradients, contents and the random state as they were."""
        before = [t.grad for t in self.differentiated]
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            try:
                yield
            finally:
                self.reset()
                for tensor, grad in zip(self.differentiated, before):
                    tensor.grad = grad

    def reset(self) -> None:
        """No gradients (or zeros to add to), first contents, the seed's random state."""
        with torch.no_grad():
            for tensor, contents in zip((*self.held, *self.inputs), self.contents):
                if not torch.equal(tensor, contents):
                    tensor.copy_(contents)
        for tensor in self.differentiated:
            tensor.grad = torch.zeros_like(tensor) if self.captured.accumulates else None
        torch.clear_autocast_cache()  # or a cast weight of an earlier step would be used again
        torch.manual_seed(self.seed)

    def step(self, module: nn.Module) -> Any:
        """Forward and backward; returns what the caller of the model holds."""
        output = module(*self.args, **self.kwargs)
        loss = loss_of(self.captured, output)
        with contextlib.ExitStack() as stack:
            for device in {"cpu", self.device.type}:  # a loop leaves autocast before the backward
                stack.enter_context(torch.autocast(device, enabled=False))
            loss.backward()  # type: ignore[no-untyped-call]
        return output

    def results(self, module: nn.Module) -> StepResults:
        """What a step leaves behind."""
        self.reset()
        output = self.step(module)
        tensors = take_apart(output)[1]
        return StepResults(
            [t.detach().clone() for t in tensors],
            [None if t.grad is None else t.grad.clone() for t in self.differentiated],
            [t.detach().clone() for t in self.model.buffers()],
        )

    def trace(self, module: nn.Module) -> AllocatorTrace:
        """Bytes of forward and backward beyond what is resident; outputs are held."""
        self.reset()
        return trace_memory(lambda: self.step(module), str(self.device))

    def peak(self, module: nn.Module) -> int:
        """The most of them."""
        return self.trace(module).peak

    def times(self, modules: Iterable[nn.Module], repeats: int) -> list[float]:
        """Median seconds of a step of each, run in turn so that all see the same machine."""
        modules = list(modules)
        seconds: list[list[float]] = [[] for _ in modules]
        for _ in range(max(repeats, 1)):
            for taken, module in zip(seconds, modules):
                self.reset()
                self._synchronize()
                began = time.perf_counter()
                self.step(module)
                self._synchronize()
                taken.append(time.perf_counter() - began)
        return [statistics.median(taken) for taken in seconds]

    def resident(self) -> int:
        """Bytes of the real storages that the step is given, each once."""
        constants = [
            getattr(self.captured.joint, str(slot.node.target))
            for slot in self.captured.slots
            if slot.node.op == "get_attr"
        ]
        return storage_bytes([*self.held, *self.inputs, *constants])

    def accumulated(self) -> int:
        """Bytes of the gradients that a later micro-batch of a step adds to."""
        self.reset()
        return storage_bytes([t.grad for t in self.differentiated if t.grad is not None])

    def optimizer_step(
        self, make: Callable[[list[nn.Parameter]], torch.optim.Optimizer], module: nn.Module
    ) -> tuple[int, int]:
        """Bytes of the optimizer's state, and of its step beyond what is resident."""
        self.reset()
        optimizer = make([p for p in self.model.parameters() if p.requires_grad])
        output = self.step(module)
        optimizer.step()  # makes the state
        optimizer.zero_grad()
        state = [
            t for entry in optimizer.state.values() for t in entry.values()
            if isinstance(t, torch.Tensor)
        ]  # fmt: skip
        output = self.step(module)
        there = storage_bytes([t.grad for t in self.differentiated if t.grad is not None])
        there += storage_bytes(take_apart(output)[1])
        taken = trace_memory(optimizer.step, str(self.device)).peak
        return storage_bytes(state), there + taken

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def loss_of(captured: Captured, output: Any) -> torch.Tensor:
    """The scalar that a captured step is differentiated from."""
    if captured.loss is not None:
        return captured.loss(output)
    own = getattr(output, "loss", None)
    if own is None and isinstance(output, Mapping):
        own = output.get("loss")
    if not (isinstance(own, torch.Tensor) and own.requires_grad):
        own = next(t for t in take_apart(output)[1] if t.requires_grad)
    return own if own.numel() == 1 else own.sum()


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Sums in a fixed order, where torch can: else a step differs from itself."""
    on, warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(on, warn_only=warn)
