"""A planned step under another number of threads: its kernels take other room, so it is weighed.

The temporaries of kernels hold for one number of threads. Where the schedule keeps the budget with
those of another number, what was promised is replaced; where it does not, the kernels of the step
keep to the number that was planned.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from pebble.budget import Footprint, Resident
from pebble.errors import BudgetNotKept, PebbleError, PebbleWarning
from pebble.graph import Graph
from pebble.measure.step import measure_bytes
from pebble.runtime.promise import Promise
from pebble.schedule import Schedule
from pebble.tracing.captured import Captured
from pebble.tracing.inputs import Inputs
from pebble.tracing.step_form import StepForm

logger = logging.getLogger("pebble")


@dataclass(frozen=True)
class ThreadFit:
    """How a planned step runs under a number of threads.

    Attributes
    ----------
    promise : Promise
        Under it.
    held : int or None
        The number that its kernels keep to; None: that of the process.
    told : str or None
        What its user has to know.
    """

    promise: Promise
    held: int | None = None
    told: str | None = None

    @property
    def kind(self) -> type[PebbleWarning]:
        """Of the warning that tells it."""
        return BudgetNotKept if self.held is None else PebbleWarning


@dataclass(frozen=True)
class Weighing:
    """What is weighed again.

    Attributes
    ----------
    form : StepForm
    schedule : Schedule
    fingerprint : str
        Of the graph that was planned.
    promise : Promise
        As it was planned.
    """

    form: StepForm
    schedule: Schedule
    fingerprint: str
    promise: Promise

    def fit(self, model: nn.Module, inputs: Inputs) -> ThreadFit:
        """How the step runs under the threads of now, traced and run once on these inputs."""
        promise, now = self.promise, torch.get_num_threads()
        resident, budget = promise.resident, promise.budget_bytes
        if resident is None or budget is None:
            return ThreadFit(promise, told=promise.other_threads())
        try:
            graph = self._weighed(model, inputs, resident, budget)
            peak = self._peak(graph, resident)
            if peak <= budget:
                logger.info("With %d threads the planned step needs %d bytes.", now, peak)
                return ThreadFit(replace(promise, threads=now, peak_bytes=peak))
            with threads_held(promise.threads):
                held = _with_loss_of(graph, self._weighed(model, inputs, resident, budget))
        except PebbleError as error:
            logger.info("The planned step cannot be weighed with %d threads: %s", now, error)
            return ThreadFit(promise, told=promise.other_threads())
        lower = self._peak(held, resident)
        if lower <= budget:
            promise = replace(promise, peak_bytes=lower)
            return ThreadFit(promise, promise.threads, promise.kept_threads(peak))
        promise = replace(promise, threads=now, peak_bytes=peak)
        return ThreadFit(promise, told=self.promise.other_threads(peak))

    def _peak(self, graph: Graph, resident: Resident) -> int:
        return Footprint(graph, resident).peak(self.schedule)

    def _weighed(self, model: nn.Module, inputs: Inputs, resident: Resident, budget: int) -> Graph:
        """The graph with its bytes under the threads of now."""
        captured: Captured = self.form.capture(model, inputs.args, inputs.kwargs)
        if captured.graph.fingerprint != self.fingerprint:
            raise PebbleError(f"this {type(model).__name__} computes another graph now")
        whole = captured.whole or captured
        # run in one piece, with everything kept, only where that is within the budget
        runs = Footprint(whole.graph, resident).unplanned_peak <= budget
        if runs and captured.whole is not None:  # what chunks share with it is known from there
            measure_bytes(captured.whole, model, inputs)
        found = measure_bytes(captured, *((model, inputs) if runs else ()))
        if not found.measured:
            raise PebbleError("some of its ops cannot be run")
        return found.on(captured.graph)


def _with_loss_of(now: Graph, held: Graph) -> Graph:
    """A graph with the temporaries of its ops, and of another one's loss: that is the caller's."""
    workspaces = [op.workspace for op in held.ops]
    sizes = [value.size for value in held.values]
    if held.boundary is not None:
        i = held.boundary
        workspaces[i] = max(workspaces[i], now.ops[i].workspace)
        for v in held.ops[i].outputs:
            sizes[v] = max(sizes[v], now.values[v].size)
    return held.with_measures(workspaces=workspaces, sizes=sizes)


@contextlib.contextmanager
def threads_held(number: int | None) -> Iterator[None]:
    """Let kernels run with a number of threads; None: with what there is."""
    before = torch.get_num_threads()
    if number is None or number == before:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
