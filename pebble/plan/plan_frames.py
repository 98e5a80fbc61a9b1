"""A plan's schedule step by step, as text."""

from __future__ import annotations

from pebble.budget import live_values, value_kind
from pebble.formatting import gigabytes
from pebble.plan.figures import PlanView
from pebble.plan.peak_moment import op_word, place_of
from pebble.step_through import StepThrough

_WIDE, _NAMED = 60, 6


def plan_frames(view: PlanView) -> StepThrough:
    """A plan op by op, beginning at the peak: what runs, what is in memory, for how long."""
    return StepThrough(lambda step: _frame(view, step), len(view.schedule), view.trace.peak_step)


def _frame(view: PlanView, step: int) -> str:
    graph, trace, figures = view.graph, view.trace, view.figures
    order = view.schedule.order
    op = graph.ops[order[step]]
    half = "forward" if step < trace.forward_steps else "backward"
    again = ", computed again" if order[step] in order[:step] else ""
    used = int(trace.live[step]) + figures.resident_bytes
    filled = round(_WIDE * used / max(figures.budget_bytes, 1))
    rows = [
        f"op {step + 1} of {len(order)}, {half}{again}: {place_of(op)}",
        f"  {op.source}" if op.source else "",
        f"|{'#' * min(filled, _WIDE):<{_WIDE}}| {gigabytes(used)} of "
        f"{gigabytes(figures.budget_bytes)}",
        f"  reads {_listed(view, op.inputs)}",
        f"  makes {_listed(view, op.outputs)}",
        *_held(view, step),
    ]
    return "\n".join(row for row in rows if row)


def _listed(view: PlanView, values: tuple[int, ...]) -> str:
    named = [f"{view.graph.values[v].name} {gigabytes(view.graph.values[v].size)}" for v in values]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more or "nothing"


def _held(view: PlanView, step: int) -> list[str]:
    """The largest values in memory, with how long each stays."""
    graph, kept = view.graph, view.trace.kept
    held = live_values(view.trace, step)
    held.sort(key=lambda v: -graph.values[v].size)
    rows = ["  in memory, the largest:"] if held else []
    for v in held[:_NAMED]:
        copies = (kept.value == v) & (kept.start <= step) & (kept.end >= step)
        start, end = int(kept.start[copies][0]), int(kept.end[copies][0])
        maker = graph.ops[int(graph.arrays.producer[v])]
        where = f" of {maker.module}" if maker.module else ""
        size, kind = gigabytes(graph.values[v].size), value_kind(graph, v)
        rows.append(f"  {size:>10}  {kind}, op {start + 1} to {end + 1}: {op_word(maker)}{where}")
    return rows
