"""What a plan's page draws, as plain data: one entry an op, one a copy of a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pebble.budget import value_kind
from pebble.graph import Graph, IntArray
from pebble.plan.figures import PlanView
from pebble.plan.module_groups import module_groups
from pebble.plan.peak_moment import op_word, peak_moment
from pebble.referee import Trace

KINDS = ("activations", "gradients", "outputs")


def page_data(view: PlanView) -> dict[str, Any]:
    """A plan as the page reads it; texts that occur often are numbers into a list.

    Parameters
    ----------
    view : PlanView

    Returns
    -------
    dict
        ``ops``: name, word, module, group, source, cost, workspace, phase of each op as numbers
        into ``texts`` or amounts; ``values``: name, kind, size, maker; ``order``: the op of each
        step; ``live``: bytes of the whole step in each step of the plan; ``copies``: value, first
        and last step of each copy; ``unplanned``: bytes of the whole step without the plan, beside
        ``unplanned_at``, where in the width of the picture each of them stands.
    """
    figures, graph, trace = view.figures, view.graph, view.trace
    texts = _Texts()
    groups = module_groups(graph.ops)
    order = list(view.schedule.order)
    resident = figures.resident_bytes
    peak = peak_moment(view)
    return {
        "model": figures.model,
        "budget": figures.budget_bytes,
        "peak": figures.peak_bytes,
        "unplannedPeak": figures.unplanned.peak_bytes,
        "floor": figures.floor_bytes,
        "resident": resident,
        "overhead": figures.overhead,
        "gap": figures.gap,
        "savedBytes": figures.saved_bytes,
        "recomputed": figures.recomputed,
        "memory": {kind: int(size) for kind, size in figures.memory.items() if size},
        "status": f"{figures.status} ({figures.solver}, {figures.scope})",
        "peakStep": peak.step,
        "forwardSteps": trace.forward_steps,
        "order": order,
        "again": _again(order),
        "live": (trace.live + resident).tolist(),
        "unplanned": (view.baseline.live + resident).tolist(),
        "unplannedAt": aligned(view).tolist(),
        "ops": [
            [
                texts.number(op.name), texts.number(op_word(op)), texts.number(op.module),
                texts.number(group), texts.number(op.source), op.cost, op.workspace,
                int(op.phase == "backward"), texts.number(op.kind[:120]),
            ]
            for op, group in zip(graph.ops, groups)
        ],
        "values": [
            [
                texts.number(value.name), KINDS.index(value_kind(graph, v)) if not value.external
                else -1, value.size, int(graph.arrays.producer[v]) if not value.external else -1,
                texts.number(value.spec),
            ]
            for v, value in enumerate(graph.values)
        ],
        "copies": _copies(graph, trace),
        "kinds": list(KINDS),
        "texts": texts.listed,
    }  # fmt: skip


def aligned(view: PlanView) -> IntArray:
    """The step of the plan beside which each step of the un-planned one is drawn.

    That of the op's last execution in the same half: then what is computed again stands beside
    the backward that reads it, and both halves begin at the same place. Never falling.
    """
    last: dict[tuple[int, bool], int] = {}
    for step, op in enumerate(view.schedule.order):
        last[op, step >= view.trace.forward_steps] = step
    first: dict[int, int] = {}
    for step, op in enumerate(view.schedule.order):
        first.setdefault(op, step)
    ahead = view.baseline.forward_steps
    at = [last.get((op, k >= ahead), first[op]) for k, op in enumerate(range(len(view.graph.ops)))]
    return np.maximum.accumulate(np.array(at, np.int64))


def _again(order: list[int]) -> list[int]:
    seen: set[int] = set()
    found = []
    for op in order:
        found.append(int(op in seen))
        seen.add(op)
    return found


def _copies(graph: Graph, trace: Trace) -> list[list[int]]:
    """Value, first and last step of each copy that takes room, largest first."""
    kept = trace.kept
    sizes = graph.arrays.size[kept.value]
    by_size = np.argsort(-sizes, kind="stable")
    by_size = by_size[sizes[by_size] > 0]
    rows = np.stack([kept.value[by_size], kept.start[by_size], kept.end[by_size]], axis=1)
    found: list[list[int]] = rows.tolist()
    return found


@dataclass
class _Texts:
    """Texts by number."""

    def __init__(self) -> None:
        self.listed: list[str] = []
        self._known: dict[str, int] = {}

    def number(self, text: str) -> int:
        found = self._known.setdefault(text, len(self.listed))
        if found == len(self.listed):
            self.listed.append(text)
        return found
