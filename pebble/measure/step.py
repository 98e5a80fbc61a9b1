"""A training step, traced and measured: everything a plan needs, whatever the budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from pebble.errors import InvalidArgument
from pebble.graph import Graph
from pebble.measure.costs import op_costs
from pebble.measure.memory import step_memory
from pebble.measure.workspaces import measure_workspaces
from pebble.plan.plan import Resident
from pebble.problem import Problem
from pebble.tracing import Captured, capture
from pebble.tracing.accumulation import accumulated, check_accumulation
from pebble.tracing.chunked_loss import chunk_loss
from pebble.tracing.inputs import Inputs, make_inputs
from pebble.tracing.recorded_inputs import inputs_to_json
from pebble.tracing.torch_private.storages import storage_bytes

OUTPUTS = ("all", "loss")


@dataclass(frozen=True)
class Step:
    """One training step of a model on inputs of one shape.

    Attributes
    ----------
    model : nn.Module
    inputs : Inputs
    loss : callable or None
    captured : Captured
        The joint graph and its map to fx nodes.
    graph : Graph
        With costs and workspaces.
    resident : Resident
        Parameters, optimizer state and the rest that no schedule changes.
    workspace_measured : bool
    origin : dict
        What this was made from, for the plan file.
    optimizer, costs
        As they were asked for.
    whole : Step or None
        The step before its loss was split into chunks.
    """

    model: nn.Module = field(repr=False)
    inputs: Inputs = field(repr=False)
    loss: Callable[[Any], torch.Tensor] | None
    captured: Captured = field(repr=False)
    graph: Graph
    resident: Resident
    workspace_measured: bool
    origin: dict[str, Any] = field(repr=False)
    optimizer: str | torch.optim.Optimizer | None = field(default=None, repr=False)
    costs: str | Sequence[int] = field(default="auto", repr=False)
    whole: Step | None = field(default=None, repr=False)

    @property
    def floor_bytes(self) -> int:
        """Peak of the whole step that no schedule of this graph can undercut."""
        return self.resident.whole_step_peak(Problem(self.graph, 0).working_set_bound)

    def chunked(self, chunks: int) -> Step:
        """The same step with the head and the loss split into chunks of tokens.

        Its `whole` is this step.

        Raises
        ------
        InvalidArgument
            If the step has no loss that can be split; says what stands in the way.
        """
        whole = self.whole or self
        captured = chunk_loss(whole.captured, chunks)
        captured = accumulated(captured) if whole.captured.accumulates else captured
        origin = {**whole.origin, "chunks": chunks}
        step = _measured(whole.model, whole.inputs, captured, whole.optimizer, whole.costs, origin)
        return replace(step, whole=whole)

    def with_inputs(self, inputs: Any) -> Step:
        """The same step on other data of the same shapes."""
        found = make_inputs(self.model, inputs)
        return replace(self, inputs=found, resident=_with_inputs(self.resident, found))


def trace_step(
    model: Any,
    inputs: Any = None,
    *,
    loss: Callable[[Any], torch.Tensor] | None = None,
    optimizer: str | torch.optim.Optimizer | None = "adamw",
    costs: str | Sequence[int] = "auto",
    batch_size: int | None = None,
    seq_len: int | None = None,
    accumulation_steps: int = 1,
    outputs: str = "all",
    chunks: int = 0,
) -> Step:
    """Trace a model's training step and measure what planning needs.

    Parameters are those of `pebble.optimize`; `costs` may also be one integer an op, and `chunks`
    is into how many parts the head and the loss are split (0: they are not).

    Raises
    ------
    InvalidArgument, InputsRequired, CaptureError
    """
    if isinstance(model, torch.export.ExportedProgram):
        inputs = make_inputs(model, inputs)
        model = model.module()
    if not isinstance(model, nn.Module):
        raise InvalidArgument(
            f"The model is a {type(model).__name__}; pass a torch.nn.Module, a "
            "torch.fx.GraphModule or a torch.export.ExportedProgram."
        )
    found = make_inputs(model, inputs, batch_size=batch_size, seq_len=seq_len)
    captured = capture(
        model, found.args, found.kwargs, loss=loss, loss_only=check_outputs(outputs) == "loss"
    )
    if chunks:
        captured = chunk_loss(captured, chunks)
    if check_accumulation(accumulation_steps) > 1:
        captured = accumulated(captured)
    origin = {
        "model": type(model).__name__,
        "device": captured.device,
        "threads": torch.get_num_threads(),
        "torch_version": torch.__version__,
        "costs": costs if isinstance(costs, str) else "given",
        "optimizer": optimizer if isinstance(optimizer, str | None) else type(optimizer).__name__,
        "loss": "default" if loss is None else getattr(loss, "__qualname__", type(loss).__name__),
        "inputs": inputs_to_json(found),
        "outputs": outputs,
        "chunks": chunks,
        "accumulation_steps": accumulation_steps,
    }
    return _measured(model, found, captured, optimizer, costs, origin)


def check_outputs(outputs: str) -> str:
    """What a step hands over.

    Raises
    ------
    InvalidArgument
        Unless it is "all" or "loss".
    """
    if outputs not in OUTPUTS:
        raise InvalidArgument(
            f"outputs is {outputs!r}; pass 'all', or 'loss' for a step that hands over its loss "
            "and nothing else."
        )
    return outputs


def _measured(
    model: nn.Module,
    inputs: Inputs,
    captured: Captured,
    optimizer: str | torch.optim.Optimizer | None,
    costs: str | Sequence[int],
    origin: dict[str, Any],
) -> Step:
    """A captured step with its costs, workspaces and what it keeps."""
    memory = step_memory(captured, optimizer=optimizer, model=model)
    so_far = {"accumulated gradients": memory.gradients} if captured.accumulates else {}
    resident = Resident({**memory.kinds, **so_far}, memory.optimizer_step_peak)
    times = op_costs(captured, costs) if isinstance(costs, str) else list(costs)
    workspaces = measure_workspaces(captured)
    return Step(
        model=model,
        inputs=inputs,
        loss=captured.loss,
        captured=captured,
        graph=captured.graph.with_measures(
            costs=times if len(times) == len(captured.graph.ops) else None,
            workspaces=workspaces.bytes,
        ),
        resident=_with_inputs(resident, inputs),
        workspace_measured=workspaces.measured,
        origin=origin,
        optimizer=optimizer,
        costs=costs,
    )


def _with_inputs(resident: Resident, inputs: Inputs) -> Resident:
    """Inputs by their storages, each once: token ids are often their own labels."""
    there = storage_bytes(inputs.tensors())
    more = there - resident.kinds.get("inputs", 0)
    peak = resident.optimizer_step_peak
    return Resident({**resident.kinds, "inputs": there}, peak + more if peak else 0)
