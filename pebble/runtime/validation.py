"""Run a planned step beside the un-planned one: same bits, measured bytes, measured time."""

from __future__ import annotations

import contextlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pebble.errors import InvalidArgument
from pebble.measure.allocator import AllocatorTrace, trace_memory
from pebble.measure.memory import step_memory
from pebble.plan.report import gigabytes, table
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.runtime.agreement import difference, same, tolerance
from pebble.runtime.planned_module import build
from pebble.schedule import Schedule
from pebble.tracing.output_templates import take_apart
from pebble.tracing.torch_private.pytree import tree_leaves
from pebble.tracing.torch_private.storages import storage_bytes

if TYPE_CHECKING:
    from pebble.tracing import Captured

RUNNABLE_OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-3),
    "momentum": lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p),
    "adamw": lambda p: torch.optim.AdamW(p),
    "adafactor": lambda p: torch.optim.Adafactor(p),
}


@dataclass(frozen=True)
class Validation:
    """What a planned step did when it was run. Bytes are those of the whole step.

    Attributes
    ----------
    loss_equal, gradients_equal, buffers_equal : bool
        Bit for bit those of the captured step with everything kept, under torch's deterministic
        algorithms and the same seed.
    eager_difference : float or None
        Largest difference of a gradient from eager mode's, relative to the largest entry of that
        gradient; None if the step draws random numbers, which eager mode draws in another way.
    resident_bytes : int
        Summed from the real storages, each once: parameters, buffers, inputs, optimizer state,
        and the gradients so far where several micro-batches are added up.
    predicted_peak_bytes, measured_peak_bytes : int
    budget_bytes : int or None
    eager_peak_bytes, unplanned_peak_bytes : int
        Measured without a plan: eager mode, and the captured step with everything kept.
    overhead_predicted, overhead_measured : float
        Extra compute and extra time as a fraction of the captured step with everything kept.
    seconds_planned, seconds_unplanned, seconds_eager : float
        Median time of forward and backward.
    device : str
    threads : int
    chunks_difference : float or None
        Where the head and the loss run in chunks: the largest difference of the loss and of a
        gradient from the un-planned captured step with its loss in one piece, each relative to
        the largest entry. The three equalities above are then with the chunked step with
        everything kept; times and peaks without a plan are those of the loss in one piece.
    tolerance : float
        What that difference may be: rounding of the coarsest dtype among the gradients.
    measured_curve : int array
        Live bytes of the planned step's forward and backward after each allocation and release,
        resident ones included. Empty on CUDA.
    """

    loss_equal: bool
    gradients_equal: bool
    buffers_equal: bool
    eager_difference: float | None
    resident_bytes: int
    predicted_peak_bytes: int
    measured_peak_bytes: int
    budget_bytes: int | None
    eager_peak_bytes: int
    unplanned_peak_bytes: int
    overhead_predicted: float
    overhead_measured: float
    seconds_planned: float
    seconds_unplanned: float
    seconds_eager: float
    device: str
    threads: int
    measured_curve: NDArray[np.int64] = field(repr=False, compare=False)
    chunks_difference: float | None = None
    tolerance: float = 0.0

    @property
    def ok_bitwise(self) -> bool:
        """Loss, gradients and buffers are those of the captured step with everything kept."""
        return self.loss_equal and self.gradients_equal and self.buffers_equal

    @property
    def exact(self) -> bool:
        """The measured peak is the predicted one, to the byte."""
        return self.measured_peak_bytes == self.predicted_peak_bytes

    @property
    def within_budget(self) -> bool:
        """The measured peak is within the budget, if there is one."""
        return self.budget_bytes is None or self.measured_peak_bytes <= self.budget_bytes

    @property
    def within_tolerance(self) -> bool:
        """A loss in chunks gives the gradients of one in one piece, up to rounding."""
        return self.chunks_difference is None or self.chunks_difference <= self.tolerance

    @property
    def ok(self) -> bool:
        """Equal as promised, never above the prediction, and within the budget."""
        below = self.measured_peak_bytes <= self.predicted_peak_bytes
        return self.ok_bitwise and self.within_tolerance and below and self.within_budget

    def __str__(self) -> str:
        yes = {True: "yes", False: "NO"}
        header = ["", "eager", "captured, all kept", "planned", "predicted", "budget"]
        budget = "-" if self.budget_bytes is None else gigabytes(self.budget_bytes)
        rows = [
            [
                "peak",
                gigabytes(self.eager_peak_bytes),
                gigabytes(self.unplanned_peak_bytes),
                gigabytes(self.measured_peak_bytes),
                gigabytes(self.predicted_peak_bytes),
                budget,
            ],
            [
                "step time",
                *(
                    f"{1e3 * seconds:.1f} ms"
                    for seconds in (
                        self.seconds_eager,
                        self.seconds_unplanned,
                        self.seconds_planned,
                    )
                ),
                "-",
                "-",
            ],
            [
                "overhead",
                "-",
                "0",
                f"{self.overhead_measured:.1%}",
                f"{self.overhead_predicted:.1%}",
                "-",
            ],
        ]
        eager = (
            "not comparable (random draws)"
            if self.eager_difference is None
            else f"{self.eager_difference:.1e}"
        )
        facts = (
            f"bitwise equal to the captured step: loss {yes[self.loss_equal]}, gradients "
            f"{yes[self.gradients_equal]}, buffers {yes[self.buffers_equal]}; largest relative "
            f"difference from eager: {eager}\n"
            f"peak to the byte: {yes[self.exact]} ({self.measured_peak_bytes:,} measured, "
            f"{self.predicted_peak_bytes:,} predicted; {gigabytes(self.resident_bytes)} of it "
            f"resident); {self.device}, {self.threads} threads"
        )
        if self.chunks_difference is not None:
            facts += (
                f"\nloss in chunks: largest relative difference from the loss in one piece "
                f"{self.chunks_difference:.1e}, allowed {self.tolerance:.0e} (rounding)"
            )
        return f"{table(header, rows)}\n{facts}"


def validate(
    model: nn.Module,
    captured: Captured,
    problem: Problem,
    schedule: Schedule,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    predicted_peak_bytes: int | None = None,
    budget_bytes: int | None = None,
    unplanned_cost: int | None = None,
    optimizer: str | None = None,
    seed: int = 0,
    repeats: int = 3,
) -> Validation:
    """Run one training step eagerly, captured with everything kept, and planned; compare.

    Parameters
    ----------
    model : nn.Module
        Parameters, gradients, buffers, inputs and the random state are afterwards what they were.
    captured : Captured
        Of this model on inputs of these shapes.
    problem : Problem
        Its graph carries measured costs and workspaces.
    schedule : Schedule
    args, kwargs : inputs of the model
    predicted_peak_bytes, budget_bytes : int, optional
        For the whole step. Without a prediction: what the referee and the memory model say.
    unplanned_cost : int, optional
        Of the un-planned step, where that is not this graph with everything kept.
    optimizer : str, optional
        Name of a torch optimizer: its state is made and counted, and its step measured too.
    seed : int
    repeats : int
        Timed runs of each.

    Raises
    ------
    InvalidArgument
        If the capture was made on fake tensors, or the optimizer is none of torch's.
    """
    if captured.fake:
        raise InvalidArgument(
            "The step was captured on fake tensors, which cannot be run; capture the real model."
        )
    if optimizer is not None and optimizer not in RUNNABLE_OPTIMIZERS:
        raise InvalidArgument(
            f"Optimizer {optimizer!r} cannot be run here; choose one of "
            f"{', '.join(RUNNABLE_OPTIMIZERS)}, or None for forward and backward only."
        )
    whole = captured.whole or captured
    kept = build(model, whole, Schedule.keep_all(whole.graph))
    twin = kept if whole is captured else build(model, captured, kept_order(problem))
    planned = build(model, captured, schedule)
    bench = _Bench(model, captured, args, dict(kwargs or {}), seed)
    with bench.restored():
        with _deterministic():
            expected, found = bench.results(twin), bench.results(planned)
            split = None if twin is kept else _chunks_difference(found, bench.results(kept))
            eager = None if _draws(captured) else bench.results(model)
        trace, everything = simulate(problem, schedule), simulate(problem, kept_order(problem))
        times = bench.times((model, kept, planned), repeats)
        resident = bench.resident()
        stepped = 0
        if optimizer is not None:
            state, stepped = bench.optimizer_step(RUNNABLE_OPTIMIZERS[optimizer], planned)
            resident += state
        largest_step = resident + stepped
        resident += bench.accumulated()
        run = bench.trace(planned)
        measured = resident + run.peak
        return Validation(
            loss_equal=same(expected.outputs, found.outputs),
            gradients_equal=same(expected.gradients, found.gradients),
            buffers_equal=same(expected.buffers, found.buffers),
            eager_difference=None
            if eager is None
            else difference(found.gradients, eager.gradients),
            resident_bytes=resident,
            predicted_peak_bytes=predicted_peak_bytes
            or step_memory(captured, optimizer=optimizer, model=model).whole_step_peak(trace.peak),
            measured_peak_bytes=max(measured, largest_step),
            budget_bytes=budget_bytes,
            eager_peak_bytes=max(resident + bench.peak(model), largest_step),
            unplanned_peak_bytes=max(resident + bench.peak(kept), largest_step),
            overhead_predicted=trace.cost / max(unplanned_cost or everything.cost, 1) - 1,
            overhead_measured=times[2] / times[1] - 1,
            seconds_eager=times[0],
            seconds_unplanned=times[1],
            seconds_planned=times[2],
            device=captured.device,
            threads=torch.get_num_threads(),
            measured_curve=resident + run.live,
            chunks_difference=split,
            tolerance=tolerance(found.gradients),
        )


def kept_order(problem: Problem) -> Schedule:
    """Everything once, in the reference order."""
    return Schedule.keep_all(problem.graph)


@dataclass(frozen=True)
class _Results:
    outputs: list[torch.Tensor]
    gradients: list[torch.Tensor | None]
    buffers: list[torch.Tensor]


class _Bench:
    """One model and its inputs, put back to the same state before every run."""

    def __init__(
        self,
        model: nn.Module,
        captured: Captured,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        seed: int,
    ) -> None:
        self.model = model
        self.captured = captured
        self.seed = seed
        if "kwargs['use_cache']" in captured.state.constants:  # eager, too, runs without a cache
            kwargs = {"use_cache": captured.state.constants["kwargs['use_cache']"]} | kwargs
        self.args, self.kwargs = args, kwargs
        leaves = tree_leaves((args, kwargs))
        self.inputs = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
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
        torch.manual_seed(self.seed)

    def step(self, module: nn.Module) -> Any:
        """Forward and backward; returns what the caller of the model holds."""
        output = module(*self.args, **self.kwargs)
        loss_of(self.captured, output).backward()  # type: ignore[no-untyped-call]
        return output

    def results(self, module: nn.Module) -> _Results:
        """What a step leaves behind."""
        self.reset()
        output = self.step(module)
        tensors = take_apart(output)[1]
        return _Results(
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
def _deterministic() -> Iterator[None]:
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


def _draws(captured: Captured) -> bool:
    """Whether the step draws random numbers."""
    return any(
        not op.recomputable
        and torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        for op, nodes in zip(captured.graph.ops, captured.op_nodes)
        for node in nodes[:1]
    )


def _chunks_difference(found: _Results, whole: _Results) -> float:
    """Of gradients and of the loss, the first output."""
    return max(
        difference(found.gradients, whole.gradients),
        difference(found.outputs[:1], whole.outputs[:1]),
    )
