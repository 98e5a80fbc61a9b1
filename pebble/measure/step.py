"""A training step, traced and measured: everything a plan needs, whatever the budget."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from pebble.budget import Footprint, Resident
from pebble.graph import Graph
from pebble.measure.costs import op_costs
from pebble.measure.dtypes import precision_of
from pebble.measure.memory import check_optimizer, step_memory
from pebble.measure.rank_memory import ranks_here, ranks_of, resident_of
from pebble.measure.slot_tensors import slot_tensors
from pebble.measure.workspaces import Workspaces, measure_workspaces
from pebble.options import StepOptions
from pebble.progress import open_line
from pebble.record import StepRecord
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.tracing import Captured
from pebble.tracing.card_precision import tell_precision
from pebble.tracing.inputs import Inputs, make_inputs
from pebble.tracing.modelling import transformers_of
from pebble.tracing.plannable import plannable
from pebble.tracing.recorded_inputs import inputs_to_json
from pebble.tracing.step_form import StepForm
from pebble.tracing.torch_private.storages import storage_bytes
from pebble.tracing.training_mode import training_mode

WAITING = "calls that wait for their backward"
"""What the other calls in flight hold, among what is resident."""


@dataclass(frozen=True)
class Step:
    """One training step of a model on inputs of one shape.

    Attributes
    ----------
    model : nn.Module
    inputs : Inputs
    captured : Captured
        The joint graph and its map to fx nodes.
    graph : Graph
        With costs and workspaces.
    resident : Resident
        Parameters, optimizer state and the rest that no schedule changes.
    workspace_measured : bool
    options : StepOptions
        What was asked for.
    record : StepRecord
        What this was made from, for the plan file.
    whole : Step or None
        The step before its loss was split into chunks.
    """

    model: nn.Module = field(repr=False)
    inputs: Inputs = field(repr=False)
    captured: Captured = field(repr=False)
    graph: Graph
    resident: Resident
    workspace_measured: bool
    options: StepOptions = field(repr=False)
    record: StepRecord = field(repr=False)
    whole: Step | None = field(default=None, repr=False)

    @cached_property
    def footprint(self) -> Footprint:
        """What the step needs, to be held against a budget."""
        return Footprint(self.graph, self.resident)

    @property
    def one_piece(self) -> Step:
        """The step with its loss in one piece."""
        return self.whole or self

    def asked(self, **changes: Any) -> Step:
        """The same step with other options recorded; what they change is the caller's to change."""
        options = replace(self.options, **changes)
        return replace(self, options=options, record=self.record.made_with(options))

    def waiting_bytes(self, schedule: Schedule) -> int:
        """Bytes that the other calls in flight hold while one runs by a schedule.

        Each keeps its inputs and what its two halves share, the gradient of its outputs included.
        """
        others = self.options.calls_in_flight - 1
        boundary = self.graph.boundary
        if not others or boundary is None:
            return 0
        between = int(simulate(self.graph, schedule).live[schedule.order.index(boundary)])
        return others * (between + self.resident.kinds.get("inputs", 0))

    def with_waiting(self, size: int) -> Step:
        """The step with so many bytes held by other calls in flight; its optimizer's step without.

        The same step where that makes no difference.
        """
        if self.resident.kinds.get(WAITING, 0) == size:
            return self
        kinds = {kind: held for kind, held in self.resident.kinds.items() if kind != WAITING}
        more = {WAITING: size} if size else {}
        return replace(self, resident=replace(self.resident, kinds=kinds | more))

    def chunked(self, chunks: int) -> Step:
        """The same step with the head and the loss split into chunks of tokens.

        Its `whole` is this step.

        Raises
        ------
        InvalidArgument
            If the step has no loss that can be split; says what stands in the way.
        """
        whole = self.one_piece
        options = replace(whole.options, chunks=chunks)
        captured = StepForm.asked(options).transform(whole.captured)
        step = _measured(whole.model, whole.inputs, captured, options, whole.record)
        step = step.with_waiting(whole.resident.kinds.get(WAITING, 0))
        return replace(step, whole=whole)

    def with_inputs(self, inputs: Any) -> Step:
        """The same step on other data of the same shapes."""
        found = make_inputs(self.model, inputs)
        resident = self.resident.with_kind("inputs", storage_bytes(found.tensors()))
        return replace(self, inputs=found, resident=resident)


@dataclass(frozen=True)
class Measures:
    """What a captured step costs and keeps.

    Attributes
    ----------
    graph : Graph
        With costs and workspaces.
    resident : Resident
    workspace_measured : bool
        False on fake tensors: then temporaries of kernels count as 0.
    """

    graph: Graph
    resident: Resident
    workspace_measured: bool


def trace_step(model: Any, inputs: Any = None, **options: Any) -> Step:
    """Trace a model's training step and measure what planning needs.

    Parameters
    ----------
    model, inputs
        As for `pebble.optimize`.
    **options
        Fields of `pebble.options.StepOptions`: optimizer, loss, costs, outputs, chunks,
        accumulation_steps, batch_size, seq_len.

    Raises
    ------
    InvalidArgument, InputsRequired, CaptureError

    Examples
    --------
    >>> import torch
    >>> step = trace_step(torch.nn.Linear(4, 2), torch.ones(3, 4), optimizer="sgd")
    >>> step.record.optimizer, len(step.graph.ops)
    ('sgd', 4)
    """
    return trace(model, inputs, StepOptions.of(**options))


def trace(model: Any, inputs: Any, options: StepOptions) -> Step:
    """The same with the options as a record."""
    if isinstance(model, torch.export.ExportedProgram):
        inputs = make_inputs(model, inputs)
    if options.ranks is None:
        options = replace(options, ranks=ranks_of(model))
    model = plannable(model)
    check_optimizer(options.optimizer, model)
    found = make_inputs(model, inputs, batch_size=options.batch_size, seq_len=options.seq_len)
    open_line().stage("capture")
    with training_mode(model):
        captured = StepForm.asked(options).capture(model, found.args, found.kwargs)
    tell_precision(captured)
    open_line().stage("measure")
    return step_of(model, found, captured, options)


def step_of(
    model: nn.Module,
    inputs: Inputs,
    captured: Captured,
    options: StepOptions,
    known: Workspaces | None = None,
) -> Step:
    """A step that was captured on these inputs, measured.

    Parameters
    ----------
    known : Workspaces, optional
        What its values and temporaries weigh; else the step is run for it once.
    """
    record = StepRecord(
        model=type(model).__name__,
        device=captured.device,
        threads=torch.get_num_threads(),
        torch_version=torch.__version__,
        inputs=inputs_to_json(inputs),
        card=captured.card,
        precision=precision_of(captured),
        transformers_version=transformers_of(model),
        kernels=dict(captured.kernels),
    )
    return _measured(model, inputs, captured, options, record, known)


def _measured(
    model: nn.Module,
    inputs: Inputs,
    captured: Captured,
    options: StepOptions,
    record: StepRecord,
    known: Workspaces | None = None,
) -> Step:
    """A captured step with its costs, workspaces and what it keeps."""
    options = replace(options, ranks=options.ranks or ranks_here())
    measures = measure(captured, options, model, inputs, known)
    step = Step(
        model=model,
        inputs=inputs,
        captured=captured,
        graph=measures.graph,
        resident=measures.resident,
        workspace_measured=measures.workspace_measured,
        options=options,
        record=record.made_with(options),
    )
    return step.with_inputs(inputs)


def measure(
    captured: Captured,
    options: StepOptions,
    model: nn.Module | None = None,
    inputs: Inputs | None = None,
    known: Workspaces | None = None,
) -> Measures:
    """Costs, workspaces and memory of a captured step.

    Parameters
    ----------
    model : nn.Module, optional
        What was captured: then parameters and buffers that the step does not touch count as well.
    inputs : Inputs, optional
        Of the model: then the step is run once on them, to see its bytes.
    known : Workspaces, optional
        Its bytes, where they are known without a run.
    """
    if known is None:
        room = options.room_bytes
        if room is not None:
            room = max(room - _resident(captured, options, model).total, 0)
        known = measure_bytes(captured, model, inputs, room_bytes=room)
    graph = known.on(captured.graph)
    resident = _resident(replace(captured, graph=graph), options, model)
    costs = options.costs
    times = op_costs(captured, costs) if isinstance(costs, str) else list(costs)
    if len(times) == len(graph.ops):
        graph = graph.with_measures(costs=times)
    return Measures(graph, resident, known.measured)


def _resident(captured: Captured, options: StepOptions, model: nn.Module | None) -> Resident:
    memory = step_memory(captured, optimizer=options.optimizer, model=model)
    ranks = options.ranks or ranks_here()
    return resident_of(memory, model, ranks, accumulates=captured.accumulates)


def measure_bytes(
    captured: Captured,
    model: nn.Module | None = None,
    inputs: Inputs | None = None,
    *,
    room_bytes: int | None = None,
) -> Workspaces:
    """Values and workspaces of a captured step, from one run of it if its tensors are at hand.

    A step in chunks is not run: what it has in common with the whole step is known from there.

    Parameters
    ----------
    captured : Captured
    model : nn.Module, optional
        What was captured.
    inputs : Inputs, optional
        Of the model.
    room_bytes : int, optional
        For the values of the graph and the temporaries, meanwhile. Default: what the machine has.
    """
    tensors = None
    if model is not None and inputs is not None and not captured.fake:
        tensors = slot_tensors(captured, plannable(model), inputs)
    return measure_workspaces(captured, tensors, room_bytes=room_bytes)
