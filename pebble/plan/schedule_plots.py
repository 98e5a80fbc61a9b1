"""Pictures of a plan's schedule: its modules over time, its matrices, and what holds the peak."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from pebble.arguments import one_of
from pebble.axes import (
    AGAIN,
    BACKWARD,
    FORWARD,
    KIND_COLOURS,
    Data,
    axes_for,
    count_axis,
    legend_below,
    memory_unit,
    picture,
)
from pebble.budget import live_values, value_kind
from pebble.graph import IntArray
from pebble.plan.module_groups import module_groups
from pebble.plan.peak_moment import op_word

if TYPE_CHECKING:
    from pebble.plan.figures import PlanView
    from pebble.plan.plan import Plan
    from pebble.referee import Trace

_ROWS, _WIDE, _CELLS = 14, 600, 320
"""Groups that are drawn by name, columns of a timeline, rows and columns of a matrix."""
_OTHERS = "all others"
MATRICES = ("R", "S")


# -- modules over time -----------------------------------------------------------------------


def timeline_data(plan: Plan, *, columns: int = _WIDE) -> Data:
    """What `plot_timeline` draws.

    Returns
    -------
    dict
        ``groups`` of modules, those that hold most first; ``bytes``: the most that each holds in
        each column; ``what``: 0 forward, 1 backward, 2 computed again; ``first_step`` of each
        column; ``steps`` and ``forward_steps``.
    """
    view = plan.view
    steps = len(view.schedule)
    first = np.unique(np.linspace(0, steps, min(columns, steps), endpoint=False).astype(int))
    held = _held_by_group(view)
    order = sorted(held, key=lambda group: -int(held[group].max(initial=0)))
    order = [group for group in order if held[group].any()]
    return {
        "model": plan.record.model,
        "groups": order,
        "bytes": [np.maximum.reduceat(held[group], first).tolist() for group in order],
        "what": np.maximum.reduceat(_what(view), first).tolist(),
        "first_step": first.tolist(),
        "steps": steps,
        "forward_steps": view.trace.forward_steps,
    }


def _held_by_group(view: PlanView) -> dict[str, IntArray]:
    """Bytes that the values made in each group of modules take, step by step."""
    graph, kept, steps = view.graph, view.trace.kept, len(view.schedule)
    groups = module_groups(graph.ops)
    found: dict[str, IntArray] = {g: np.zeros(steps + 1, np.int64) for g in dict.fromkeys(groups)}
    maker, size = graph.arrays.producer, graph.arrays.size
    for v, start, end in zip(kept.value.tolist(), kept.start.tolist(), kept.end.tolist()):
        change = found[groups[int(maker[v])]]
        change[start] += size[v]
        change[end + 1] -= size[v]
    return {group: np.cumsum(change)[:-1] for group, change in found.items()}


def _what(view: PlanView) -> IntArray:
    order = np.array(view.schedule.order, np.int64)
    what = (np.arange(len(order)) >= view.trace.forward_steps).astype(np.int64)
    again = np.ones(len(order), np.bool_)
    again[np.unique(order, return_index=True)[1]] = False
    what[again] = 2
    return what


@picture(timeline_data, "pebble.optimize Plan")
def plot_timeline(plan: Plan, *, ax: Any = None) -> Any:
    """The pebbles by module: how much of what each made is in memory, op by op; darker is more.

    The strip on top says what runs: forward, backward, or what is computed again.

    Parameters
    ----------
    plan : Plan
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    data = timeline_data(plan)
    names = data["groups"][:_ROWS]
    rows = np.array(data["bytes"][:_ROWS], float).reshape(len(names), -1)
    ax = axes_for(ax, (9, 1.6 + 0.27 * len(names)))
    unit, scale = memory_unit(rows.max(initial=1))
    wide = data["steps"]
    drawn = ax.imshow(
        np.sqrt(rows / scale), aspect="auto", cmap="Blues", interpolation="none",
        extent=(0, wide, len(names) - 0.5, -0.5), vmin=0,
    )  # fmt: skip
    colours = (FORWARD, BACKWARD, AGAIN)
    ax.imshow(
        [data["what"]], aspect="auto", cmap=ListedColormap(colours), vmin=0, vmax=2,
        interpolation="none", extent=(0, wide, -0.65, -1.15),
    )  # fmt: skip
    ax.axvline(data["forward_steps"], color="black", ls=":", lw=1)
    ax.set(
        xlabel="op of the plan",
        title=f"What each module holds: {data['model']}",
        xlim=(0, wide),
        ylim=(len(names) - 0.5, -1.2),
    )
    ax.set_yticks(range(len(names)), names, fontsize="small")
    bar = ax.figure.colorbar(drawn, ax=ax, pad=0.01, label=f"in memory, {unit}")
    bar.ax.yaxis.set_major_formatter(lambda root, _: f"{root**2:.3g}")
    named = zip(("forward", "backward", "computed again"), colours)
    count_axis(ax.xaxis)
    legend_below(ax, 3, [Patch(color=colour, label=name) for name, colour in named])
    return ax


# -- what holds the peak ---------------------------------------------------------------------


def module_data(plan: Plan) -> Data:
    """What `plot_modules` draws: bytes at the peak of forward and backward.

    Returns
    -------
    dict
        ``planned`` and ``unplanned``: by group of modules and by kind, each at its own peak, the
        op that runs then with its temporaries; ``resident``: by kind.
    """
    view = plan.view
    return {
        "model": plan.record.model,
        "planned": _at_peak(view, view.trace, list(view.schedule.order)),
        "unplanned": _at_peak(view, view.baseline, list(range(len(view.graph.ops)))),
        "resident": {kind: size for kind, size in plan.resident.kinds.items() if size},
    }


def _at_peak(view: PlanView, trace: Trace, order: list[int]) -> dict[str, dict[str, int]]:
    graph = view.graph
    groups = module_groups(graph.ops)
    found: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for v in live_values(trace, trace.peak_step):
        group = groups[int(graph.arrays.producer[v])]
        found[group][value_kind(graph, v)] += graph.values[v].size
    running = order[trace.peak_step]
    if graph.ops[running].workspace:
        found[groups[running]]["workspace"] += graph.ops[running].workspace
    return {group: dict(kinds) for group, kinds in found.items() if any(kinds.values())}


@picture(module_data, "pebble.optimize Plan")
def plot_modules(plan: Plan, *, ax: Any = None) -> Any:
    """What is in memory at the peak, by module and kind; in outline, at the peak without a plan.

    Parameters
    ----------
    plan : Plan
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    data = module_data(plan)
    planned, unplanned = _largest(data["planned"], data["unplanned"])
    names = ["resident", *planned]
    resident = {"resident": sum(data["resident"].values())}
    bars = [resident, *planned.values()]
    outlines = [0, *(sum(unplanned[name].values()) for name in planned)]
    most = max([sum(bar.values()) for bar in bars] + outlines)
    unit, scale = memory_unit(most)
    ax = axes_for(ax, (8, 1.3 + 0.3 * len(names)))
    ax.barh(
        range(len(names)), np.array(outlines) / scale, height=0.86, fill=False,
        edgecolor="#77756f", lw=1, label="without a plan",
    )  # fmt: skip
    left = np.zeros(len(names))
    for kind, colour in KIND_COLOURS.items():
        sizes = np.array([bar.get(kind, 0) for bar in bars]) / scale
        if sizes.any():
            ax.barh(range(len(names)), sizes, left=left, height=0.6, color=colour, label=kind)
            left += sizes
    ax.set_yticks(range(len(names)), names, fontsize="small")
    ax.invert_yaxis()
    ax.set(
        xlabel=f"memory at the peak in {unit}",
        title=f"Memory by module: {data['model']}",
        xlim=(0, 1.06 * most / scale),
    )
    legend_below(ax, 6)
    return ax


Kinds = dict[str, dict[str, int]]


def _largest(planned: Kinds, unplanned: Kinds) -> tuple[Kinds, Kinds]:
    """The groups that hold most with or without the plan, the rest as one."""

    def most(group: str) -> int:
        return max(sum(kinds.get(group, {}).values()) for kinds in (planned, unplanned))

    groups = sorted({**planned, **unplanned}, key=lambda group: (-most(group), group))
    shown, rest = groups[:_ROWS], groups[_ROWS:]

    def cut(kinds: Kinds) -> Kinds:
        found = {group: kinds.get(group, {}) for group in shown}
        if rest:
            others: dict[str, int] = defaultdict(int)
            for group in rest:
                for kind, size in kinds.get(group, {}).items():
                    others[kind] += size
            found[_OTHERS] = dict(others)
        return found

    return cut(planned), cut(unplanned)


# -- R and S ---------------------------------------------------------------------------------


def matrix_data(plan: Plan, *, matrix: str = "R") -> Data:
    """What `plot_matrices` draws: Checkmate's R or S as a raster.

    Returns
    -------
    dict
        ``raster``: 0 nothing, 1 computed for the first time (or kept), 2 computed again; a cell
        stands for several stages or columns where there are more than it has; ``stages`` and
        ``columns``, how many there are; ``names`` of the columns.

    Raises
    ------
    InvalidArgument
        If the matrix is neither "R" nor "S".
    """
    one_of("matrix", matrix, MATRICES)
    view = plan.view
    graph, schedule = view.graph, view.schedule
    stages = schedule.stages()
    count = int(stages.max(initial=-1)) + 1
    named = [op_word(op) for op in graph.ops] if matrix == "R" else [v.name for v in graph.values]
    high, wide = min(count, _CELLS), min(len(named), _CELLS)
    raster = np.zeros((high, wide), np.int64)
    row, column = high / max(count, 1), wide / max(len(named), 1)
    if matrix == "R":
        at = (stages * row).astype(int), (np.array(schedule.order) * column).astype(int)
        np.maximum.at(raster, at, np.where(_what(view) == 2, 2, 1))
    else:
        kept = view.trace.kept
        first, last = stages[kept.start] + 1, stages[kept.end]
        for v, a, b in zip(kept.value.tolist(), first.tolist(), last.tolist()):
            if b >= a:
                raster[int(a * row) : int(b * row) + 1, int(v * column)] = 1
    return {
        "model": plan.record.model,
        "matrix": matrix,
        "raster": raster.tolist(),
        "stages": count,
        "columns": len(named),
        "names": named,
    }


@picture(matrix_data, "pebble.optimize Plan")
def plot_matrices(plan: Plan, *, matrix: str = "R", ax: Any = None) -> Any:
    """Checkmate's matrices: R, what each stage computes, or S, what is kept into it.

    Stage t ends with the first execution of the t-th op. In R, orange is computed again.

    Parameters
    ----------
    plan : Plan
    matrix : "R" or "S"
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    InvalidArgument
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    data = matrix_data(plan, matrix=matrix)
    ax = axes_for(ax, (6, 5.4))
    ax.imshow(
        data["raster"], aspect="auto", cmap=ListedColormap(("#fcfcfb", BACKWARD, AGAIN)), vmin=0,
        vmax=2, interpolation="none", extent=(0, data["columns"], data["stages"], 0),
    )  # fmt: skip
    what = "computed" if matrix == "R" else "kept"
    ax.set(
        xlabel="op" if matrix == "R" else "value",
        ylabel="stage",
        title=f"{matrix}: what each stage has {what}, {data['model']}",
    )
    count_axis(ax.xaxis)
    count_axis(ax.yaxis)
    told = {"R": ("computed", "computed again"), "S": ("kept from the stage before",)}[matrix]
    legend_below(ax, 2, [Patch(color=c, label=name) for name, c in zip(told, (BACKWARD, AGAIN))])
    return ax
