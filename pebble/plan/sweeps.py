"""Many budgets and solvers of one step, in one table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pebble.arguments import check_time_limit
from pebble.budget import Footprint, Resident, least_known_peak
from pebble.deadline import Deadline, Turns
from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.formatting import Printed, gigabytes, table
from pebble.graph import Graph
from pebble.options import TIME_LIMIT, SearchOptions
from pebble.plan.search import best_of, starting_options
from pebble.progress import open_line, watched
from pebble.schedule import Schedule
from pebble.solver import Result, solve

_LEAST = 0.25  # of the time, for the least peak where the budgets are to begin there


@dataclass(frozen=True)
class Row:
    """One budget of one solver.

    Attributes
    ----------
    solver : str
    budget_bytes : int
        Whole step.
    result : Result
        Of the graph's part of it.
    peak_bytes : int or None
        Whole step; None without a plan.
    overhead : float or None
        Extra compute as a fraction.
    """

    solver: str
    budget_bytes: int
    result: Result
    peak_bytes: int | None
    overhead: float | None


@dataclass(frozen=True, repr=False)
class Sweep(Printed):
    """The rows of a sweep.

    Attributes
    ----------
    name : str
    rows : tuple of Row
    baseline_peak_bytes, bound_bytes : int
        Peak of the un-planned step; a peak that no schedule can undercut.
    """

    name: str
    rows: tuple[Row, ...]
    baseline_peak_bytes: int
    bound_bytes: int

    def table(self) -> str:
        """One line a row."""
        header = ["solver", "budget", "peak", "extra compute", "status", "gap", "seconds"]
        lines = []
        for row in self.rows:
            none = row.peak_bytes is None or row.overhead is None or row.result.gap is None
            lines.append(
                [
                    row.solver,
                    gigabytes(row.budget_bytes),
                    "-" if none else gigabytes(row.peak_bytes),  # type: ignore[arg-type]
                    "-" if none else f"{100 * row.overhead:.2f} %",  # type: ignore[operator]
                    str(row.result.status),
                    "-" if none else f"{100 * row.result.gap:.2f} %",  # type: ignore[operator]
                    f"{row.result.runtime:.1f}",
                ]
            )
        return table(header, lines)

    def __str__(self) -> str:
        return self.table()

    def data(self) -> list[dict[str, Any]]:
        """The rows as plain data, for other tools."""
        return [
            {
                "solver": row.solver,
                "budget_bytes": row.budget_bytes,
                "peak_bytes": row.peak_bytes,
                "overhead": row.overhead,
                "status": str(row.result.status),
                "gap": row.result.gap,
                "seconds": row.result.runtime,
            }
            for row in self.rows
        ]

    def plot(self, ax: Any = None) -> Any:
        """`pebble.plan.plots.plot_tradeoff` of this sweep."""
        from pebble.plan.plots import plot_tradeoff

        return plot_tradeoff(self, ax=ax)


def _told(found: Sweep) -> str:
    planned = sum(row.peak_bytes is not None for row in found.rows)
    return f"{planned} of {len(found.rows)} budgets and solvers with a plan"


@watched(_told)
def sweep(
    model: Any,
    inputs: Any = None,
    *,
    budgets: int | Sequence[int] = 8,
    solvers: Sequence[str] = ("greedy", "sqrt", "auto"),
    time_limit: float = TIME_LIMIT,
    seed: int = 0,
    display: bool | None = None,
    **step_options: Any,
) -> Sweep:
    """Solve many budgets with many solvers.

    Parameters
    ----------
    model : nn.Module, a traced `Step`, or a `Graph`
    inputs : optional
        As for `pebble.optimize`.
    budgets : int or sequence of int
        Bytes of the whole step; or how many, evenly spread from the least peak found to the
        un-planned peak.
    solvers : sequence of str
    time_limit : float
        Seconds for the whole call; each solve gets an even share of what is left.
    seed : int
    display : bool, optional
        Show progress, and in the end what came out; default: on a terminal and in a notebook.
    **step_options
        `loss`, `optimizer`, `costs` ... as for `pebble.optimize`.

    Returns
    -------
    Sweep
        For each solver the cost never rises with the budget: a schedule that fits a smaller
        budget is a candidate for every larger one.
    """
    deadline = Deadline(check_time_limit(time_limit))
    if isinstance(solvers, str) or not solvers:
        raise InvalidArgument(f"solvers is {solvers!r}; pass a list of names, such as ['auto'].")
    searches = [SearchOptions(solver, seed=seed) for solver in solvers]  # known names
    if not isinstance(budgets, int):
        budgets = [_whole_bytes(size) for size in budgets]
    step, name = _subject(model, inputs, step_options)
    wanted, leanest = _budgets(step, budgets, deadline, seed)
    turns = Turns(deadline, len(solvers) * len(wanted))
    rows = [row for search in searches for row in _staircase(step, wanted, leanest, search, turns)]
    return Sweep(name, tuple(rows), step.unplanned_peak, step.peak_lower_bound)


def _subject(model: Any, inputs: Any, options: dict[str, Any]) -> tuple[Footprint, str]:
    if isinstance(model, Graph):
        return Footprint(model, Resident({})), model.name
    from pebble.measure.step import Step, trace_step

    step = model if isinstance(model, Step) else trace_step(model, inputs, **options)
    return step.footprint, step.record.model


def _whole_bytes(size: Any) -> int:
    if not isinstance(size, (int, float, np.integer)) or not 1 <= size < math.inf:
        raise InvalidArgument(
            f"budgets has {size!r}; pass bytes of the whole step, from 1 on (30 MB is 30_000_000)."
        )
    return int(size)


def _budgets(
    step: Footprint, budgets: int | Sequence[int], deadline: Deadline, seed: int
) -> tuple[list[int], Schedule | None]:
    """The budgets, and the schedule of least peak where that was looked for."""
    if not isinstance(budgets, int):
        return sorted(set(budgets)), None
    if budgets < 2:
        raise InvalidArgument(f"budgets is {budgets}; a sweep needs at least 2.")
    least = least_known_peak(step, time_limit=deadline.share(_LEAST), seed=seed)
    even = np.linspace(least.peak_bytes, step.unplanned_peak, budgets)
    return sorted({int(b) for b in even}), least.schedule


def _staircase(
    step: Footprint,
    budgets: Iterable[int],
    leanest: Schedule | None,
    search: SearchOptions,
    turns: Turns,
) -> list[Row]:
    """The rows of one solver, smallest budget first."""
    rows: list[Row] = []
    known: Schedule | None = None
    for budget in budgets:
        if not step.resident.admits(budget):
            raise InfeasibleBudget(
                f"{gigabytes(budget)} is below what the step keeps whatever the schedule, "
                f"{gigabytes(step.resident.whole_step_peak(0))}; sweep larger budgets.",
                budget_bytes=budget,
            )
        open_line().part(f"{search.solver} within {gigabytes(budget)}")
        result = solve(
            step.problem(budget),
            search.solver,
            time_limit=turns.next(),
            seed=search.seed,
            **starting_options(search.solver, known or leanest),
        )
        result = best_of(result, known)
        known = result.schedule or known
        rows.append(_row(step, budget, result))
    return rows


def _row(step: Footprint, budget_bytes: int, result: Result) -> Row:
    peak = overhead = None
    if result.trace is not None:
        peak = step.resident.whole_step_peak(result.trace.peak)
        overhead = result.trace.recomputed_cost / max(step.graph.total_cost, 1)
    return Row(result.solver, budget_bytes, result, peak, overhead)
