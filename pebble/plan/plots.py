"""Pictures of plans and sweeps. Each takes `ax=None`, returns the Axes, and has `.data`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pebble.axes import (
    BACKWARD,
    FORWARD,
    LINES,
    Data,
    axes_for,
    count_axis,
    legend_below,
    memory_unit,
    picture,
)
from pebble.errors import InvalidArgument
from pebble.formatting import gigabytes
from pebble.plan.page_data import aligned
from pebble.schedule import FREE_ORDER

if TYPE_CHECKING:
    from pebble.plan.figures import PlanView
    from pebble.plan.plan import Plan
    from pebble.plan.sweeps import Row, Sweep

SAVED, BASELINE, BUDGET, BOUND = "#1f77b4", "#77756f", "#d62728", "#52514e"


def memory_data(plan: Plan, *, measured: Any = None) -> Data:
    """What `plot_memory` draws; bytes of the whole step.

    Returns
    -------
    dict
        ``planned`` in each step of the plan; ``unplanned`` beside ``unplanned_step``, the step of
        the plan next to which each op of the un-planned step stands; ``measured`` beside
        ``measured_step``, where a curve is given; ``budget_bytes``, ``bound_bytes`` and
        ``forward_steps``.
    """
    view, resident = plan.view, plan.resident.total
    curve = [] if measured is None else _curve(measured)
    return {
        "model": plan.record.model,
        "overhead": plan.overhead,
        "planned": (view.trace.live + resident).tolist(),
        "unplanned": (view.baseline.live + resident).tolist(),
        "unplanned_step": aligned(view).tolist(),
        "measured": curve,
        "measured_step": _event_places(view, len(curve)),
        "budget_bytes": plan.budget_bytes,
        "bound_bytes": view.figures.floor_bytes,
        "forward_steps": view.trace.forward_steps,
    }


def _curve(measured: Any) -> list[float]:
    found = np.asarray(getattr(measured, "measured_curve", measured))
    if found.ndim != 1 or found.dtype.kind not in "iuf":
        raise InvalidArgument(
            f"measured is {type(measured).__name__}; pass what plan.validate() returns, or an "
            "array of bytes."
        )
    curve: list[float] = found.tolist()
    return curve


def _event_places(view: PlanView, count: int) -> list[float]:
    """Where in the steps of a plan so many measured allocations and releases stand.

    As many as the plan has stand each in its own step; others are spread over those evenly.
    """
    graph, kept, steps = view.graph, view.trace.kept, len(view.schedule)
    arrays = graph.arrays
    takes = arrays.size[kept.value] > 0
    freed = takes & ~arrays.pinned[kept.value]
    order = np.array(view.schedule.order, np.int64)
    events = np.bincount(kept.start[takes], minlength=steps)
    events += np.bincount(kept.end[freed], minlength=steps)
    events += 2 * (arrays.workspace[order] > 0)
    within = [np.arange(many) / many for many in events.tolist() if many]
    places = np.repeat(np.arange(steps), events) + np.concatenate([*within, np.zeros(0)])
    if not len(places) or not count:
        return [0.0] * count
    at = np.linspace(0, len(places) - 1, count)
    found: list[float] = np.interp(at, np.arange(len(places)), places).tolist()
    return found


@picture(memory_data, "pebble.optimize Plan")
def plot_memory(plan: Plan, *, measured: Any = None, ax: Any = None) -> Any:
    """Memory over the schedule: un-planned, planned and measured, beside the budget and the bound.

    The un-planned step is drawn next to the ops of the plan, so that what is computed again stands
    as a stretch in which nothing new happens without a plan.

    Parameters
    ----------
    plan : Plan
    measured : Validation or array of float, optional
        What `Plan.validate` returns, or live bytes of the whole step after each allocation and
        release, of any length: drawn over the same ops.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax = axes_for(ax, (9, 4.2))
    data = memory_data(plan, measured=measured)
    unit, scale = memory_unit(max(data["unplanned"], default=1))
    steps, ahead = len(data["planned"]), data["forward_steps"]
    ax.axvspan(0, ahead, color=FORWARD, alpha=0.13, linewidth=0)
    ax.axvspan(ahead, steps, color=BACKWARD, alpha=0.07, linewidth=0)

    def line(step: list[float], size: list[float], **how: Any) -> None:
        if size:  # the last one is as wide as the others
            sizes = np.array([*size, size[-1]]) / scale
            ax.step([*step, max(steps, step[-1])], sizes, where="post", **how)

    line(data["unplanned_step"], data["unplanned"], color=BASELINE, lw=1.2, label="no plan")
    label = f"this plan (+{100 * data['overhead']:.1f} % compute)"
    line(list(range(steps)), data["planned"], color=SAVED, lw=1.4, label=label)
    line(
        data["measured_step"], data["measured"], color="black", lw=0.8, ls=(0, (1, 1)),
        label="measured",
    )  # fmt: skip
    ax.axhline(data["budget_bytes"] / scale, color=BUDGET, ls="--", lw=1.2, label="budget")
    ax.axhline(
        data["bound_bytes"] / scale, color=BOUND, ls=":", lw=1.2, label="no plan can go below"
    )
    top = 1.12 * max(*data["unplanned"], *data["planned"], data["budget_bytes"]) / scale
    for at, text in ((ahead / 2, "forward"), ((ahead + steps) / 2, "backward")):
        ax.text(at, 0.99 * top, text, ha="center", va="top", fontsize="small", color=BOUND)
    ax.set(
        xlabel="op of the plan",
        ylabel=f"memory in {unit}",
        title=f"Memory over the step: {data['model']}",
        ylim=(0, top),
        xlim=(0, max(steps, 1)),
    )
    count_axis(ax.xaxis)
    legend_below(ax, 5)
    return ax


def tradeoff_data(sweep: Sweep, *, peers: Mapping[str, tuple[int, float]] | None = None) -> Data:
    """What `plot_tradeoff` draws; bytes of the whole step, overheads as fractions.

    Returns
    -------
    dict
        ``solvers``: the points of each that no other of its own beats; ``peers``; ``bound``: steps
        ``(from_bytes, to_bytes, overhead)``, within which no schedule of any order takes less
        extra compute; ``bound_bytes``, below which none fits; ``baseline_peak_bytes``.
    """
    solvers = dict.fromkeys(row.solver for row in sweep.rows)
    points = {
        solver: pareto(
            [
                (row.peak_bytes, row.overhead)
                for row in sweep.rows
                if row.solver == solver and row.peak_bytes is not None and row.overhead is not None
            ]
        )
        for solver in solvers
    }
    return {
        "name": sweep.name,
        "solvers": points,
        "peers": dict(peers or {}),
        "bound": bound_steps(sweep.rows, sweep.bound_bytes),
        "bound_bytes": sweep.bound_bytes,
        "baseline_peak_bytes": sweep.baseline_peak_bytes,
    }


@picture(tradeoff_data, "pebble.sweep Sweep")
def plot_tradeoff(sweep: Sweep, *, peers: Any = None, ax: Any = None) -> Any:
    """Peak against extra compute, one staircase a solver; where no schedule can be is shaded.

    Parameters
    ----------
    sweep : Sweep
    peers : mapping of str to (peak_bytes, overhead), optional
        Points of other tools.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax = axes_for(ax, (7, 4.8))
    data = tradeoff_data(sweep, peers=peers)
    unit, scale = memory_unit(data["baseline_peak_bytes"])
    found = [p for points in data["solvers"].values() for p in points]
    found += list(data["peers"].values())
    top = 108 * max([overhead for _, overhead in found], default=0.1) or 1.0
    bound, whole = data["bound_bytes"] / scale, data["baseline_peak_bytes"] / scale
    left = max(bound - 0.1 * (whole - bound), 0.0)
    ax.axvspan(left, bound, color=BASELINE, alpha=0.35, lw=0, label="proved: no schedule fits")
    label = "proved: none takes so little"
    for low, high, overhead in data["bound"]:
        if overhead > 0:
            ax.fill_between(
                [low / scale, high / scale], 0, 100 * overhead, color=BASELINE, alpha=0.18, lw=0,
                label=label,
            )  # fmt: skip
            label = "_"
    for (solver, points), (colour, line, marker) in zip(
        data["solvers"].items(), LINES * (len(data["solvers"]) or 1)
    ):
        if points:
            x, y = np.array(points, float).T
            ax.step(
                x / scale, 100 * y, where="post", color=colour, linestyle=line, marker=marker,
                markersize=4, label=solver,
            )  # fmt: skip
    for name, (peak, overhead) in data["peers"].items():
        ax.plot(peak / scale, 100 * overhead, "x", color="black")
        ax.annotate(
            name, (peak / scale, 100 * overhead), xytext=(4, 3), textcoords="offset points",
            fontsize="x-small",
        )  # fmt: skip
    ax.axvline(whole, color=BASELINE, linestyle=":", label=f"no plan, {gigabytes(whole * scale)}")
    ax.set(
        xlabel=f"peak memory of the step in {unit}",
        ylabel="extra compute in %",
        title=f"Memory against recomputation: {data['name']}",
        xlim=(left, None),
        ylim=(0, top),
    )
    legend_below(ax, 3)
    return ax


def bound_steps(rows: tuple[Row, ...], least_bytes: int) -> list[tuple[int, int, float]]:
    """Where no schedule takes less extra compute than this: (from, to, overhead), by bytes.

    A bound for a budget holds for every peak up to it; where several do, the highest one. Only
    bounds for schedules of any order count.
    """
    known: dict[int, float] = {}
    for row in rows:
        if row.result.scope == FREE_ORDER:
            cost = max(row.result.problem.graph.total_cost, 1)
            overhead = row.result.lower_bound / cost - 1
            known[row.budget_bytes] = max(overhead, known.get(row.budget_bytes, 0.0))
    steps = []
    highest = 0.0
    budgets = sorted(known)
    below = [least_bytes, *budgets]
    for budget, start in reversed(list(zip(budgets, below))):
        highest = max(highest, known[budget])
        if budget > start:
            steps.append((start, budget, highest))
    return steps[::-1]


def pareto(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The points that no other one beats in both peak and overhead, by peak.

    Examples
    --------
    >>> pareto([(3, 0.1), (1, 0.5), (2, 0.6), (4, 0.1)])
    [(1, 0.5), (3, 0.1)]
    """
    best: list[tuple[int, float]] = []
    for peak, overhead in sorted(points):
        if not best or overhead < best[-1][1]:
            best.append((peak, overhead))
    return best
