"""The moment of a plan's peak: which op runs then, where it comes from, and what is in memory."""

from __future__ import annotations

from dataclasses import dataclass

from pebble.budget import live_values, value_kind
from pebble.graph import Graph, Op, Phase
from pebble.plan.figures import PlanView

_LARGEST = 5
"""Values beside the op's own that are named."""
OPTIMIZER_STEP = "optimizer step"


@dataclass(frozen=True)
class HeldValue:
    """A value in memory.

    Attributes
    ----------
    name : str
    size_bytes : int
    kind : "activations", "gradients" or "outputs"
    op, module, source : str
        What made it.
    """

    name: str
    size_bytes: int
    kind: str
    op: str
    module: str
    source: str


@dataclass(frozen=True)
class PeakMoment:
    """What sets the peak.

    Attributes
    ----------
    peak_bytes : int
        Of the whole step.
    phase : "forward", "backward" or "optimizer step"
        In the last no op of the graph runs, and what follows is empty.
    step : int
        Of the schedule; -1 in the optimizer's step.
    op, kind, module, source : str
        The op that runs: its name, what it computes, the module and the line it comes from.
    again : bool
        Whether it is recomputed there.
    own_bytes, workspace_bytes : int
        What it reads, makes and takes while it runs; the last of these by itself.
    held : tuple of HeldValue
        The largest values that are there for later, largest first.
    """

    peak_bytes: int
    phase: str
    step: int = -1
    op: str = ""
    kind: str = ""
    module: str = ""
    source: str = ""
    again: bool = False
    own_bytes: int = 0
    workspace_bytes: int = 0
    held: tuple[HeldValue, ...] = ()


def op_word(op: Op) -> str:
    """What an op computes, in a word.

    Examples
    --------
    >>> op_word(Op("addmm_3", 1, kind="aten.addmm.default(%0, aten.view.default(%1, [4]), %2)"))
    'addmm'
    """
    name = op.kind.partition("(")[0].removeprefix("aten.").removeprefix("pebble.")
    return name.partition(".")[0].strip("_") or op.name


def place_of(op: Op) -> str:
    """An op with its module, as it is named in a sentence."""
    return f"{op_word(op)} of {op.module}" if op.module else f"{op_word(op)} ({op.name})"


def peak_moment(view: PlanView) -> PeakMoment:
    """What sets the peak of a plan."""
    footprint, trace, graph = view.footprint, view.trace, view.graph
    peak_bytes = view.figures.peak_bytes
    if footprint.in_optimizer_step(trace):
        return PeakMoment(peak_bytes, OPTIMIZER_STEP)
    order, at = view.schedule.order, trace.peak_step
    op = graph.ops[order[at]]
    own = {v for v in (*op.inputs, *op.outputs) if not graph.values[v].external}
    beside = [v for v in live_values(trace, at) if v not in own]
    beside.sort(key=lambda v: -graph.values[v].size)
    return PeakMoment(
        peak_bytes=peak_bytes,
        phase=str(Phase.FORWARD if at < trace.forward_steps else Phase.BACKWARD),
        step=at,
        op=op.name,
        kind=op_word(op),
        module=op.module,
        source=op.source,
        again=order[at] in order[:at],
        own_bytes=op.workspace + sum(graph.values[v].size for v in own),
        workspace_bytes=op.workspace,
        held=tuple(_held(graph, v) for v in beside[:_LARGEST]),
    )


def _held(graph: Graph, v: int) -> HeldValue:
    value, maker = graph.values[v], graph.ops[int(graph.arrays.producer[v])]
    return HeldValue(
        value.name, value.size, value_kind(graph, v), op_word(maker), maker.module, maker.source
    )
