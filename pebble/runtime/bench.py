"""The place where steps of one model are run, timed and weighed, each from the same state."""

from __future__ import annotations

import contextlib
import statistics
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from pebble.measure.allocator import AllocatorTrace, trace_memory
from pebble.measure.card_counters import seconds_of
from pebble.measure.loss_run import total
from pebble.runtime.planned_module import build
from pebble.runtime.random_states import RandomStates
from pebble.runtime.step_twin import StepTwin
from pebble.schedule import Schedule
from pebble.tracing.captured import Captured
from pebble.tracing.output_templates import leaves, take_apart
from pebble.tracing.signature import OutputKind
from pebble.tracing.torch_private.storages import storage_bytes


class Bench:
    """A step and the twin of a model that it runs on, put back to one state before every run.

    Parameters
    ----------
    twin : StepTwin
    schedule : Schedule, optional
        By which the step runs; default: the model itself runs.
    whole : bool
        Run the step with its loss in one piece.
    seed : int, optional
        Of the random state before each run; default: the random state of now.
    """

    def __init__(
        self,
        twin: StepTwin,
        schedule: Schedule | None = None,
        *,
        whole: bool = False,
        seed: int | None = None,
    ) -> None:
        self.twin = twin
        self.seed = seed
        self.captured = twin.source[1]
        self.whole = (self.captured.whole or self.captured) if whole else self.captured
        self.module = twin.model
        if schedule is not None:
            self.module = build(twin.model, self.whole, schedule)
        self.device = twin.device
        self.begun = RandomStates.now(self.device)

    def reset(self) -> None:
        """No gradients, first contents, the first random state."""
        self.twin.reset()
        self.begun.put_back()
        if self.seed is not None:
            torch.manual_seed(self.seed)

    def call(self) -> Any:
        """What the step returns."""
        return self.module(*self.twin.args, **self.twin.kwargs)

    def loss(self, output: Any) -> torch.Tensor:
        """The scalar that the step is differentiated from."""
        own = self.twin.loss
        return loss_of(self.captured, output) if own is None else own(output)

    def step(self) -> Any:
        """Forward and backward; returns what the caller of the model holds."""
        with self.autocast():
            output = self.call()
            loss = self.loss(output)
        with self.no_autocast():
            loss.backward()  # type: ignore[no-untyped-call]
        return output

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """The autocast of the capture."""
        with contextlib.ExitStack() as stack:
            for device, enabled, dtype in self.captured.state.autocast:
                kind = dtype if enabled else None
                kept = self.captured.state.casts_cached
                stack.enter_context(
                    torch.autocast(device, dtype=kind, enabled=enabled, cache_enabled=kept)
                )
            yield

    @contextlib.contextmanager
    def no_autocast(self) -> Iterator[None]:
        """A loop leaves autocast before the backward."""
        with contextlib.ExitStack() as stack:
            for device in {"cpu", self.device.type}:
                stack.enter_context(torch.autocast(device, enabled=False))
            yield

    def trace(self) -> AllocatorTrace:
        """Bytes of forward and backward beyond what is resident; outputs are held."""
        self._begin_weighing()
        return trace_memory(self.step, str(self.device))

    def peak(self) -> int:
        """The most of them."""
        return self.trace().peak

    def seconds(self) -> float:
        """Of one step."""
        self._begin_weighing()
        return seconds_of(self.step, self.device)

    def resident(self) -> int:
        """Bytes of the real storages that the step is given, each once."""
        return storage_bytes(self._given())

    def _given(self) -> list[torch.Tensor]:
        constants = [
            getattr(self.captured.joint, str(slot.node.target))
            for slot in self.captured.slots
            if slot.node.op == "get_attr"
        ]
        twin = self.twin
        held = (twin.parameters, twin.buffers, twin.inputs)
        return [*(t for named in held for t in named.values()), *constants]

    def accumulated(self) -> int:
        """Bytes of the gradients that a later micro-batch of a step adds to."""
        self._begin_weighing()
        return storage_bytes(self._gradients())

    def optimizer_step(
        self, make: Callable[[list[torch.Tensor]], torch.optim.Optimizer]
    ) -> tuple[int, int]:
        """Bytes of the optimizer's state, and of its step beyond what is resident."""
        self._begin_weighing()
        optimizer = make([p for p in self.twin.parameters.values() if p.requires_grad])
        output = self.step()
        optimizer.step()  # makes the state
        optimizer.zero_grad()
        state = [
            t for entry in optimizer.state.values() for t in entry.values()
            if isinstance(t, torch.Tensor)
        ]  # fmt: skip
        output = self.step()
        given = self._given()  # a sparse gradient may hold the indices that were passed
        there = storage_bytes([*given, *self._gradients()]) - storage_bytes(given)
        there += storage_bytes(take_apart(output)[1])
        taken = trace_memory(optimizer.step, str(self.device)).peak
        return storage_bytes(state), there + taken

    def _begin_weighing(self) -> None:
        """First state, with gradients to add to where there are some in a later micro-batch."""
        self.reset()
        if self.captured.accumulates:
            for _, tensor in self.twin.differentiated():
                tensor.grad = torch.zeros_like(tensor)

    def _gradients(self) -> list[torch.Tensor]:
        grads = (tensor.grad for _, tensor in self.twin.differentiated())
        return [grad for grad in grads if grad is not None]


def median_seconds(benches: Iterable[Bench], repeats: int) -> list[float]:
    """Median seconds of a step of each, run in turn so that all see the same machine."""
    rounds = [[bench.seconds() for bench in benches] for _ in range(max(repeats, 1))]
    return [statistics.median(taken) for taken in zip(*rounds)]


def loss_of(captured: Captured, output: Any) -> torch.Tensor:
    """The scalar that a captured step is differentiated from: by default the sum of its roots."""
    if captured.loss is not None:
        return captured.loss(output)
    return total(list(roots_of(captured, output).values()))


def roots_of(captured: Captured, output: Any) -> Mapping[str, torch.Tensor]:
    """The tensors of an output that a captured step is differentiated from, by path."""
    roots = [o.name for o in captured.outputs if o.kind is OutputKind.DIFFERENTIABLE]
    named = named_tensors(output)
    return {name: named[name] for name in roots if name in named}


def named_tensors(output: Any) -> dict[str, torch.Tensor]:
    """The tensors of an output by path.

    Examples
    --------
    >>> list(named_tensors({"loss": torch.zeros(()), "more": (torch.ones(1), 2)}))
    ["['loss']", "['more'][0]"]
    """
    template, tensors = take_apart(output)
    return {leaf.path: tensors[leaf.index] for leaf in leaves(template)}


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
