"""The plots. Every one takes `ax=None`, draws with matplotlib, and returns the Axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pebble.axes import LINES, axes_for

if TYPE_CHECKING:
    from pebble.plan.plan import Plan
    from pebble.plan.sweeps import Sweep

SAVED, RECOMPUTED, BASELINE, BUDGET = "#1f77b4", "#ff7f0e", "#999999", "#d62728"


def _unit(size: int) -> tuple[str, float]:
    """GB or MB, whichever reads better for this many bytes."""
    return ("GB", 1e9) if size >= 10**9 else ("MB", 1e6)


def plot_memory(plan: Plan, *, measured: Any = None, ax: Any = None) -> Any:
    """Memory over the schedule, without the plan and with it.

    Parameters
    ----------
    plan : Plan
    measured : array of float, optional
        Live bytes of the whole step over the measured step, of any length: drawn over the same
        width. `Validation.measured_curve` has it.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    ax = axes_for(ax, (9, 4))
    resident = plan.resident.total
    unit, scale = _unit(plan.baseline_peak_bytes)
    without, planned = plan.baseline.live, plan.trace.live
    ax.step(
        np.linspace(0, 1, len(without)),
        (resident + without) / scale,
        where="post",
        color=BASELINE,
        label="no plan",
    )
    ax.step(
        np.linspace(0, 1, len(planned)),
        (resident + planned) / scale,
        where="post",
        color=SAVED,
        label=f"this plan (+{100 * plan.overhead:.1f} % compute)",
    )
    if measured is not None:
        curve = np.asarray(measured)
        ax.plot(
            np.linspace(0, 1, len(curve)),
            curve / scale,
            color="black",
            linewidth=0.8,
            linestyle=(0, (1, 1)),
            label="measured",
        )
    ax.axhline(plan.budget_bytes / scale, color=BUDGET, linestyle="--", label="budget")
    boundary = plan.trace.forward_steps / max(len(planned), 1)
    ax.axvline(boundary, color=SAVED, linestyle=":", linewidth=1, label="backward begins (plan)")
    ax.set(
        xlabel="fraction of the step's executions",
        ylabel=f"memory in {unit}",
        title=f"Memory over the step: {plan.record.model}",
        ylim=(0, None),
        xlim=(0, 1),
    )
    ax.legend(loc="upper left", fontsize="small")
    return ax


def plot_tradeoff(sweep: Sweep, *, peers: Any = None, ax: Any = None) -> Any:
    """Peak against overhead, one staircase a solver, dominated points left out.

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
    ax = axes_for(ax, (7, 4.5))
    unit, scale = _unit(sweep.baseline_peak_bytes)
    solvers = list(dict.fromkeys(row.solver for row in sweep.rows))
    for solver, (colour, line, marker) in zip(solvers, LINES * len(solvers)):
        points = pareto(
            [
                (row.peak_bytes, row.overhead)
                for row in sweep.rows
                if row.solver == solver and row.peak_bytes is not None and row.overhead is not None
            ]
        )
        if points:
            x, y = np.array(points, float).T
            ax.step(
                x / scale, 100 * y, where="post", color=colour, linestyle=line, marker=marker,
                markersize=4, label=solver,
            )  # fmt: skip
    for name, (peak, overhead) in (peers or {}).items():
        ax.plot(peak / scale, 100 * overhead, "x", color="black")
        ax.annotate(name, (peak / scale, 100 * overhead), fontsize="x-small")
    bound = sweep.bound_bytes / scale
    left = max(bound - 0.1 * (sweep.baseline_peak_bytes / scale - bound), 0.0)
    ax.axvspan(left, bound, color=BASELINE, alpha=0.3, label="no schedule fits")
    ax.axvline(sweep.baseline_peak_bytes / scale, color=BASELINE, linestyle=":", label="no plan")
    ax.set(
        xlabel=f"peak memory of the step in {unit}",
        ylabel="extra compute in %",
        title=f"Memory against recomputation: {sweep.name}",
        xlim=(left, None),
    )
    ax.legend(fontsize="small")
    return ax


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
