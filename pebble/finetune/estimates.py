"""Memory of a whole training step, by kind and by phase, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from pebble.arguments import one_of, renamed
from pebble.finetune.memory_moments import Kinds, Moment, Storage, kept_by, moments_of
from pebble.formatting import Printed, gigabytes, table
from pebble.measure.dtypes import under_autocast
from pebble.measure.step import measure_bytes
from pebble.options import Differentiate, StepOptions
from pebble.progress import open_line, watched
from pebble.ranks import Buckets
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.tracing import Captured
from pebble.tracing.inputs import make_inputs
from pebble.tracing.step_form import StepForm
from pebble.tracing.training_mode import training_mode


@dataclass(frozen=True, repr=False)
class Estimate(Printed):
    """Memory of a training step.

    Attributes
    ----------
    moments : tuple of Moment
        Fullest moment of each phase, of the first step and of later steps.
    overhead : mapping
        Named terms outside torch's allocator (CUDA context); not in `peak`.
    host : int
        Bytes of optimizer state in the host's memory (paged optimizers).
    workspace_measured : bool
        False on fake tensors: op-internal temporaries count as 0.
    """

    moments: tuple[Moment, ...]
    overhead: Kinds = field(default_factory=dict)
    host: int = 0
    workspace_measured: bool = True

    @property
    def peak(self) -> int:
        """Bytes of the fullest moment of all; what a budget for the step has to hold."""
        return max(moment.total for moment in self.moments)

    @property
    def peak_moment(self) -> Moment:
        """The fullest moment of all."""
        return max(self.moments, key=lambda moment: moment.total)

    def moment(self, phase: str, *, first: bool = False) -> Moment:
        """The fullest moment of a phase."""
        return next(m for m in self.moments if (m.phase, m.first) == (phase, first))

    def __str__(self) -> str:
        kinds = list(dict.fromkeys(kind for m in self.moments for kind in m.kinds))
        header = ["", *(f"{m.phase}{' (first)' if m.first else ''}" for m in self.moments)]
        rows = [
            [kind, *(gigabytes(m.kinds.get(kind, 0)) for m in self.moments)]
            for kind in kinds
            if any(m.kinds.get(kind) for m in self.moments)
        ]
        rows.append(["total", *(gigabytes(m.total) for m in self.moments)])
        notes = [f"outside the budget: {name} {gigabytes(n)}" for name, n in self.overhead.items()]
        if self.host:
            notes.append(f"in the host's memory: optimizer state {gigabytes(self.host)}")
        if not self.workspace_measured:
            notes.append("op-internal temporaries are not measured on fake tensors")
        return "\n".join([table(header, rows), *notes])


def _told(found: Estimate) -> str:
    return f"{gigabytes(found.peak)} at the peak, in the {found.peak_moment.phase}"


@watched(_told)
@renamed(accumulate="accumulation_steps")
def estimate(
    model: nn.Module,
    inputs: Any = None,
    *,
    loss: Callable[[Any], torch.Tensor] | None = None,
    optimizer: str | torch.optim.Optimizer | None = "adamw",
    implementation: str | None = None,
    state_dtype: str | None = None,
    master_weights: bool = False,
    gradient_dtype: str | None = None,
    autocast: str | None = None,
    quantize: str | None = None,
    accumulation_steps: int = 1,
    ddp: str | None = None,
    overhead: Kinds | None = None,
    schedule: Schedule | None = None,
    captured: Captured | None = None,
    batch_size: int | None = None,
    seq_len: int | None = None,
    differentiate: Differentiate = None,
    display: bool | None = None,
) -> Estimate:
    """Memory of a training step of a model, on real or fake tensors.

    Parameters
    ----------
    model, inputs, loss, batch_size, seq_len, differentiate
        As in `pebble.optimize`. Frozen parameters have neither gradient nor state.
    optimizer : str, torch.optim.Optimizer or None
    implementation : "for-loop", "foreach" or "fused", optional
        Of torch's optimizers; default: what torch picks on the device.
    state_dtype : "fp32", "bf16" or "fp16", optional
        Of the optimizer's state where it is not the parameters' own.
    master_weights : bool
        The optimizer keeps an fp32 copy of every trainable parameter (and state to match).
    gradient_dtype : "fp32", "bf16" or "fp16", optional
        In which gradients are kept, where that is not the parameters' own: each is converted and
        added as soon as it is made.
    autocast : "bf16" or "fp16", optional
        The step runs under autocast of this dtype; weights stay what they are.
    quantize : "int8", "4bit" or "4bit-double", optional
        Frozen weights of linear layers (the output head left out) are stored so; one of them at a
        time exists in its own dtype.
    accumulation_steps : int
        Micro-batches a step: from the second on, the gradients so far are there as well, and
        each new one is added to its own as soon as it is made.
    ddp : "copies" or "views", optional
        Gradient buckets of DistributedDataParallel, as it makes them by default or with
        ``gradient_as_bucket_view=True``.
    overhead : mapping, optional
        Named terms outside torch's allocator; default: measured on a CUDA device.
    schedule : Schedule, optional
        Of the captured graph; default: everything is kept.
    captured : Captured, optional
        A capture of this model, to save time; one that accumulates gradients counts as such.
    display : bool, optional
        Show progress, and in the end what came out; default: on a terminal and in a notebook.

    Raises
    ------
    InvalidArgument
        If an option is unknown (lists the choices) or nothing can be quantised.
    CaptureError, InputsRequired

    Examples
    --------
    >>> import torch
    >>> import pebble
    >>> step = pebble.estimate(torch.nn.Linear(1000, 1000, bias=False), torch.ones(1, 1000))
    >>> step.moment("optimizer step").kinds["optimizer state"]
    8000004
    """
    if ddp is not None:
        one_of("ddp", ddp, list(Buckets))
    asked = StepOptions(
        optimizer=optimizer,
        loss=loss,
        accumulation_steps=accumulation_steps,
        batch_size=batch_size,
        seq_len=seq_len,
        differentiate=differentiate,
    )
    found = (
        None
        if captured is not None and inputs is None
        else make_inputs(model, inputs, batch_size=batch_size, seq_len=seq_len)
    )
    if captured is None:
        assert found is not None
        open_line().stage("capture")
        with under_autocast(found.tensors(), autocast), training_mode(model):
            form = StepForm.asked(replace(asked, accumulation_steps=1))
            captured = form.capture(model, found.args, found.kwargs)
    storage = Storage(implementation, state_dtype, master_weights, gradient_dtype, quantize, ddp)
    workspaces = measure_bytes(captured, model, found)
    captured = replace(captured, graph=workspaces.on(captured.graph))
    # A plan's capture adds up from the second micro-batch on; gradients that are converted as
    # they are made are added to those of the other dtype.
    added_up = captured.accumulates or asked.accumulates or gradient_dtype is not None
    kept = kept_by(captured, model, optimizer, storage, added_up=added_up)
    if added_up:
        captured = StepForm(accumulates=True).transform(captured)
    graph = captured.graph
    trace = simulate(graph, schedule or Schedule.keep_all(graph))
    return Estimate(
        moments=moments_of(graph, trace, kept),
        overhead=dict(kept.memory.overhead if overhead is None else overhead),
        host=kept.memory.optimizer.host,
        workspace_measured=workspaces.measured,
    )
