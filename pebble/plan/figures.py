"""The figures of a plan that its report and its pictures show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pebble.budget import Unplanned
from pebble.graph import IntArray


@dataclass(frozen=True)
class PlanFigures:
    """What a plan says of itself. Bytes are those of the whole step.

    Attributes
    ----------
    model, solver, status, scope : str
        `scope` is that of the lower bound.
    budget_bytes, peak_bytes, saved_bytes, resident_bytes : int
    floor_bytes : int
        A peak that no schedule can undercut.
    unplanned : Unplanned
        The step that runs as it is.
    overhead, bound_overhead, gap : float
        Extra compute of the plan and of the lower bound, and how far they are apart, as fractions.
    recomputed : int
        Extra executions.
    memory : mapping
        Bytes by kind at the peak.
    runtime : float
        Seconds.
    seed : int
    workspace_measured : bool
    outputs : "all" or "loss"
    chunks : int
        0: the loss is in one piece.
    live, unplanned_live : IntArray
        Bytes of the graph's values in each step of the schedule, and with everything kept.
    """

    model: str
    solver: str
    status: str
    scope: str
    budget_bytes: int
    peak_bytes: int
    saved_bytes: int
    resident_bytes: int
    floor_bytes: int
    unplanned: Unplanned
    overhead: float
    bound_overhead: float
    gap: float
    recomputed: int
    memory: Mapping[str, int]
    runtime: float
    seed: int
    workspace_measured: bool
    outputs: str
    chunks: int
    live: IntArray = field(repr=False)
    unplanned_live: IntArray = field(repr=False)
