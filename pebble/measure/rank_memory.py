"""What one rank of a distributed run keeps: a step's memory, and what its wrapper adds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import distributed, nn

from pebble.budget import Resident
from pebble.measure.memory import StepMemory
from pebble.ranks import ALONE, REPLICAS, Buckets, Ranks
from pebble.tracing.wrapped import is_data_parallel, running_data_parallel

GRADIENT_BUCKETS = "gradient buckets"
_USE_BYTES = 8
"""Of two int32 for each parameter, in which its use is noted."""


def ranks_of(model: Any) -> Ranks | None:
    """How a wrapped model is trained on this rank; None if nothing is wrapped around it."""
    if not is_data_parallel(model):
        return None
    views = bool(model.gradient_as_bucket_view)
    return Ranks(
        Buckets.VIEWS if views else Buckets.COPIES,
        broadcasts_buffers=bool(model.broadcast_buffers),
        hands_copies=bool(model.find_unused_parameters or model.static_graph),
        tracks_use=bool(model.find_unused_parameters),
    )


def ranks_here() -> Ranks:
    """How a bare model is trained: as the wrapper that calls it says, or may come to be said.

    With several ranks it is taken to be wrapped later, as DistributedDataParallel is by default.
    """
    return ranks_of(running_data_parallel()) or (REPLICAS if several_ranks() else ALONE)


def several_ranks() -> bool:
    """Whether torch.distributed is set up with more than one rank."""
    there = distributed.is_available() and distributed.is_initialized()
    return there and distributed.get_world_size() > 1


def resident_of(
    memory: StepMemory, model: nn.Module | None, ranks: Ranks, *, accumulates: bool
) -> Resident:
    """What no schedule changes on a rank, and the peak of the optimizer's step there.

    Parameters
    ----------
    memory : StepMemory
        Of the model's step in one process.
    model : nn.Module, optional
        Every trained parameter of it has a place in a bucket, used or not.
    ranks : Ranks
    accumulates : bool
        Whether gradients are there when the step begins.
    """
    resident = memory.resident
    kinds = dict(resident.kinds)
    if accumulates:
        kinds["accumulated gradients"] = memory.gradients
    peak = resident.optimizer_step_peak
    if ranks.buckets is not None:
        trained = [] if model is None else [p for p in model.parameters() if p.requires_grad]
        buckets = sum(p.nbytes for p in trained) if trained else memory.gradients
        kinds[GRADIENT_BUCKETS] = buckets + _USE_BYTES * len(trained) * ranks.tracks_use
        if peak:  # views: in that step the gradients are the buckets
            views = ranks.buckets is Buckets.VIEWS
            peak += kinds[GRADIENT_BUCKETS] - (memory.gradients if views else 0)
    if ranks.broadcasts_buffers and kinds.get("buffers"):
        kinds["broadcast of buffers"] = kinds["buffers"]
    if ranks.hands_copies and memory.outputs:
        kinds["copies of outputs"] = memory.outputs
        peak += memory.outputs if peak else 0
    return replace(resident, kinds=kinds, optimizer_step_peak=peak)
