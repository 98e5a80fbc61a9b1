"""The figures of a plan that its report and its pictures show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pebble.budget import Footprint, Unplanned
from pebble.graph import Graph, IntArray
from pebble.referee import Trace
from pebble.schedule import Schedule


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
    card_text : str
        What is reserved on a card; empty where the budget is not for that.
    kernels_text : str
        Whose kernels a step without a card at hand was planned with; else empty.
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
    card_text: str
    kernels_text: str
    live: IntArray = field(repr=False)
    unplanned_live: IntArray = field(repr=False)


@dataclass(frozen=True)
class PlanView:
    """What pictures, pages and files for other viewers are made from.

    Attributes
    ----------
    figures : PlanFigures
    footprint : Footprint
    schedule : Schedule
    trace, baseline : Trace
        The replay of the plan, and of the graph with everything kept.
    """

    figures: PlanFigures
    footprint: Footprint = field(repr=False)
    schedule: Schedule = field(repr=False)
    trace: Trace = field(repr=False)
    baseline: Trace = field(repr=False)

    @property
    def graph(self) -> Graph:
        """The step."""
        return self.footprint.graph
