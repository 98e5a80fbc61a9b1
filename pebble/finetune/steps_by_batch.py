"""A step at any batch size: traced exactly where it matters, sketched everywhere else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn

from pebble.budget import Resident
from pebble.errors import InvalidArgument
from pebble.finetune.outlines import Outline
from pebble.finetune.rescaled_traces import rescale, tracer_batch
from pebble.graph import Graph
from pebble.measure.dtypes import under_autocast
from pebble.measure.step import Step, trace
from pebble.options import StepOptions
from pebble.progress import open_line
from pebble.tracing import Captured
from pebble.tracing.inputs import Inputs, make_inputs
from pebble.tracing.resized_inputs import resized
from pebble.tracing.step_form import StepForm
from pebble.tracing.training_mode import training_mode

Change = Callable[[Step], Step]
_KEPT, _SKETCHED = 3, 8  # exact steps and sketches that stay in memory


class Batches:
    """The training step of one model at every batch size.

    On fake tensors one trace serves all sizes (see `pebble.finetune.outlines`). On real
    ones, whose temporaries have to be measured, sizes in between are interpolated from two exact
    steps.

    Parameters
    ----------
    model : nn.Module
    inputs : callable, tensor, tuple, mapping or None
        A function of the batch size; or example inputs, whose tensors are repeated or cut along
        the first dimension; or None, for inputs that `pebble.tracing.inputs` infers.
    seq_len : int, optional
        For inferred inputs.
    autocast : "bf16" or "fp16", optional
        The step runs under autocast of this dtype.
    **options
        Fields of `pebble.options.StepOptions`.

    Attributes
    ----------
    fake : bool
        Whether tensors have no data.
    trace_seconds : float
        That the latest trace took.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any = None,
        *,
        seq_len: int | None = None,
        autocast: str | None = None,
        **options: Any,
    ) -> None:
        self.model, self._inputs, self._seq_len = model, inputs, seq_len
        self._autocast = autocast
        self.options = StepOptions.of(**options)
        first = next(iter(model.parameters()), None)
        self._mode = getattr(first, "fake_mode", None)
        self.fake = self._mode is not None
        self._change: Change = lambda step: step
        self._split: Change = lambda step: step
        self._exact: dict[int, Step] = {}
        self._ready: dict[int, Step] = {}
        self._sketches: dict[int, Step] = {}
        self._traced: Step | None = None
        self._outline: Outline | None = None
        self._prime = tracer_batch(model) if self.fake else 0
        self.trace_seconds = 0.0

    def changed(self, change: Change) -> Batches:
        """The same steps with a change to each (another optimizer, say); traces are shared."""
        return self._sharing(_change=lambda step: change(self._change(step)))

    def chunked(self, chunks: int) -> Batches:
        """The same steps with the head and the loss in chunks of tokens; traces are shared.

        Raises
        ------
        InvalidArgument
            If the step has no loss that can be split.
        """
        traced = self._trace().chunked(chunks) if self.fake else self._traced
        known = next(iter(self._exact), None)
        outline = self._outlined_of(traced) if self.fake and traced is not None else None
        return self._sharing(
            _traced=traced,
            _split=lambda step: step.chunked(chunks),
            _outline=outline,
            _sketches={},
            _ready={} if known is None else {known: self._exact[known].chunked(chunks)},
        )

    def captured(self, batch: int) -> Captured:
        """The graph of the step at this size, for its shapes only."""
        if batch in self._exact:
            return self.exact(batch).captured
        if self.fake:
            return self.rescaled(batch).captured
        inputs = self.inputs(batch)
        with training_mode(self.model):
            return StepForm.asked(self.options).capture(self.model, inputs.args, inputs.kwargs)

    def _sharing(self, **changes: Any) -> Batches:
        if self.fake:
            self._outlined()
        other = Batches.__new__(Batches)
        other.__dict__ = {**self.__dict__, **changes}
        return other

    def inputs(self, batch: int) -> Inputs:
        """Inputs of a batch of this size."""
        with self._mode or contextlib.nullcontext():
            if callable(self._inputs):
                return make_inputs(self.model, self._inputs(batch))
            if self._inputs is None:
                return make_inputs(self.model, None, batch_size=batch, seq_len=self._seq_len)
            return resized(make_inputs(self.model, self._inputs), batch)

    def exact(self, batch: int) -> Step:
        """The step traced at this size, temporaries measured where tensors are real."""
        open_line().part(f"batch {batch}")
        if batch not in self._exact:
            self._exact[batch] = self._traced_at(batch)
            while len(self._exact) > _KEPT:
                del self._exact[next(iter(self._exact))]
        return self._change(self._whole_or_split(batch))

    def _whole_or_split(self, batch: int) -> Step:
        """The step traced at this size, with its loss in chunks where that is wanted."""
        known = self._ready.get(batch)
        if known is None or (known.whole or known) is not self._exact[batch]:
            self._ready = {b: step for b, step in self._ready.items() if b in self._exact}
            self._ready[batch] = self._split(self._exact[batch])
        return self._ready[batch]

    def sketch(self, batch: int) -> Step:
        """The step at this size for planning only: from the trace, or between two exact steps."""
        if batch in self._exact:
            return self.exact(batch)
        open_line().part(f"batch {batch}")
        return self._change(self._rescaled(batch) if self.fake else self._between(batch))

    def _rescaled(self, batch: int) -> Step:
        if batch not in self._sketches:
            self._sketches[batch] = self._outlined().at(batch, self.inputs(batch))
            while len(self._sketches) > _SKETCHED:
                del self._sketches[next(iter(self._sketches))]
        return self._sketches[batch]

    def _outlined(self) -> Outline:
        """Of the trace and the same at the smallest batch."""
        if self._outline is None:
            self._outline = self._outlined_of(self._trace())
        return self._outline

    def _outlined_of(self, traced: Step) -> Outline:
        one = rescale(traced, self._prime, self.inputs(1), 1)
        return Outline(1, one, self._prime, traced)

    def rescaled(self, batch: int) -> Step:
        """The step of fake tensors with a graph of this size, where a sketch has numbers alone."""
        return self._change(rescale(self._trace(), self._prime, self.inputs(batch), batch))

    def _trace(self) -> Step:
        if self._traced is None:
            self._traced = self._traced_at(self._prime)
        return self._traced

    def _traced_at(self, batch: int) -> Step:
        inputs, began = self.inputs(batch), time.perf_counter()
        with under_autocast(inputs.tensors(), self._autocast):
            step = trace(self.model, inputs, self.options)
        self.trace_seconds = time.perf_counter() - began
        return step

    def _between(self, batch: int) -> Step:
        if len(self._exact) < 2:
            raise InvalidArgument("Trace two batch sizes exactly before sketching others.")
        alike = [b for b in self._exact if b > 1]  # one sample alone is often traced otherwise
        several = alike if len(alike) > 1 else self._exact
        known = sorted(several, key=lambda b: abs(b - batch))[:2]
        low, high = sorted(known)
        first, second = self._whole_or_split(low), self._whole_or_split(high)
        return between(low, first, high, second, batch)


def between(low: int, first: Step, high: int, second: Step, batch: int) -> Step:
    """Two steps of the same ops, interpolated (or extrapolated) linearly to another batch.

    Raises
    ------
    InvalidArgument
        If they have different ops.
    """
    a, b = first.graph, second.graph
    if [op.outputs for op in a.ops] != [op.outputs for op in b.ops]:
        raise InvalidArgument(
            f"The step has other ops at a batch of {low} than at {high}; its sizes in between "
            "cannot be interpolated."
        )

    def at(x: int, y: int) -> int:
        return max(-((y - x) * (low - batch) // (high - low)) + x, 0)  # rounded up

    values = [replace(v, size=at(v.size, w.size)) for v, w in zip(a.values, b.values, strict=True)]
    ops = [
        replace(o, cost=at(o.cost, p.cost), workspace=at(o.workspace, p.workspace))
        for o, p in zip(a.ops, b.ops, strict=True)
    ]
    kinds = {
        kind: at(first.resident.kinds.get(kind, 0), second.resident.kinds.get(kind, 0))
        for kind in {**first.resident.kinds, **second.resident.kinds}
    }
    peak = at(first.resident.optimizer_step_peak, second.resident.optimizer_step_peak)
    graph = Graph(ops, values, name=a.name, boundary=a.boundary)
    whole = None
    if first.whole is not None and second.whole is not None:
        whole = between(low, first.whole, high, second.whole, batch)
    return replace(second, graph=graph, resident=Resident(kinds, peak), whole=whole)
