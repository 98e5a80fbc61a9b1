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
from pebble.measure.memory import check_optimizer, step_memory
from pebble.measure.workspaces import measure_workspaces
from pebble.options import StepOptions
from pebble.record import StepRecord
from pebble.tracing import Captured
from pebble.tracing.inputs import Inputs, make_inputs
from pebble.tracing.plannable import plannable
from pebble.tracing.recorded_inputs import inputs_to_json
from pebble.tracing.step_form import StepForm
from pebble.tracing.torch_private.storages import storage_bytes
from pebble.tracing.training_mode import training_mode


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
    model = plannable(model)
    check_optimizer(options.optimizer, model)
    found = make_inputs(model, inputs, batch_size=options.batch_size, seq_len=options.seq_len)
    with training_mode(model):
        captured = StepForm.asked(options).capture(model, found.args, found.kwargs)
    record = StepRecord(
        model=type(model).__name__,
        device=captured.device,
        threads=torch.get_num_threads(),
        torch_version=torch.__version__,
        inputs=inputs_to_json(found),
    )
    return _measured(model, found, captured, options, record)


def _measured(
    model: nn.Module, inputs: Inputs, captured: Captured, options: StepOptions, record: StepRecord
) -> Step:
    """A captured step with its costs, workspaces and what it keeps."""
    measures = measure(captured, options, model)
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


def measure(captured: Captured, options: StepOptions, model: nn.Module | None = None) -> Measures:
    """Costs, workspaces and memory of a captured step.

    Parameters
    ----------
    model : nn.Module, optional
        What was captured: then parameters and buffers that the step does not touch count as well.
    """
    memory = step_memory(captured, optimizer=options.optimizer, model=model)
    resident = memory.resident
    if captured.accumulates:
        there = {"accumulated gradients": memory.gradients}
        resident = replace(resident, kinds={**resident.kinds, **there})
    costs = options.costs
    times = op_costs(captured, costs) if isinstance(costs, str) else list(costs)
    workspaces = measure_workspaces(captured)
    graph = captured.graph.with_measures(
        costs=times if len(times) == len(captured.graph.ops) else None, workspaces=workspaces.bytes
    )
    return Measures(graph, resident, workspaces.measured)
