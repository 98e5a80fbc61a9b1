"""Every zoo model x budgets x solvers: planned, applied, run, and compared to the byte and the bit.

    python benchmarks/zoo.py [--models gpt2_dropout,resnet] [--budgets 5] [--time-limit 5] [--fresh]

A row passes if the measured peak is the predicted one to the byte and within the budget, if loss,
gradients, buffers and random state are those of an *eager* step on the same model, inputs and
random state, and if they are bit for bit those of the captured step with everything kept. Beside
eager a row says "bitwise", or "rounding" and what differs first, where the graph sums in another
order than eager does; a difference beyond rounding fails. Exit status 1 if any row fails, if `auto`
has no plan for a row, if a cost rises with the budget, or if a model cannot be planned at all.

Results are written after every model, and models that the file has are not run again; `--fresh`
begins anew.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import traceback
import warnings
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import ZOO

import pebble
from pebble.budget import least_known_peak
from pebble.errors import InfeasibleBudget
from pebble.formatting import gigabytes
from pebble.measure.step import Step, trace_step
from pebble.plan.optimization import plan_step
from pebble.runtime.bench import Bench
from pebble.runtime.eager_comparison import compare_with_eager
from pebble.runtime.random_states import random_states_kept
from pebble.runtime.step_twin import StepTwin
from pebble.runtime.validation_report import Validation
from pebble.schedule import Schedule
from pebble.solver import solve

SOLVERS = ("greedy", "sqrt", "auto")
RESULTS = Path(__file__).parent / "results" / "zoo.json"


def least_known(step: Step, time_limit: float) -> tuple[int, Schedule]:
    """The smallest peak of the whole step that any solver here finds."""
    found = least_known_peak(step.footprint, time_limit=time_limit)
    peak, schedule = found.peak_bytes, found.schedule
    for solver in ("greedy", "sqrt", "recompute_all"):
        result = solve(step.footprint.problem(peak), solver, time_limit=5)
        if result.trace is not None and result.schedule is not None:
            lower = step.footprint.peak(result.schedule)
            peak, schedule = min((peak, schedule), (lower, result.schedule), key=lambda x: x[0])
    return peak, schedule


def run_model(name: str, n_budgets: int, time_limit: float) -> dict[str, Any]:
    """All rows of one model."""
    began = time.perf_counter()
    model, inputs = ZOO[name]()
    step = trace_step(model, inputs, optimizer=None)
    traced = time.perf_counter() - began
    baseline = step.footprint.unplanned_peak
    least, leanest = least_known(step, 2 * time_limit)
    bound = step.footprint.peak_lower_bound
    print(
        f"\n{name}: {len(step.graph.ops)} ops, traced in {traced:.1f} s; no plan "
        f"{gigabytes(baseline)}, least known {gigabytes(least)}, working-set bound "
        f"{gigabytes(bound)}",
        flush=True,
    )
    budgets = [int(b) for b in np.linspace(least, baseline, n_budgets)]
    rows = []
    for solver in SOLVERS:
        # auto may begin with the plan of the least peak: it fits every budget of the sweep
        start: Schedule | None = leanest if solver == "auto" else None
        for budget in budgets:
            row, start = run_row(step, name, solver, budget, start, time_limit)
            rows.append(row)
            print(line(row), flush=True)
    return {
        "model": name,
        "settings": settings(n_budgets, time_limit),
        "seconds": round(time.perf_counter() - began, 1),
        "ops": len(step.graph.ops),
        "trace_seconds": traced,
        "baseline_bytes": baseline,
        "least_bytes": least,
        "bound_bytes": bound,
        "rows": rows,
    }


def run_row(
    step: Step,
    name: str,
    solver: str,
    budget: int,
    start: Schedule | None,
    time_limit: float,
) -> tuple[dict[str, Any], Schedule | None]:
    """Plan and validate one row; returns it and the schedule to begin the next one with."""
    row: dict[str, Any] = {"model": name, "solver": solver, "budget": budget, "plan": False}
    try:
        plan = plan_step(step, budget, solver=solver, time_limit=time_limit, start=start)
    except InfeasibleBudget as error:
        return row | {"reason": str(error)}, start
    checked = plan.validate(repeats=1)
    as_kept = checked.ok_bitwise or bitwise_as_kept(step, plan.schedule)
    row |= {
        "plan": True,
        "found_by": plan.solver,
        "predicted": plan.peak_bytes,
        "measured": checked.measured_peak_bytes,
        "exact": checked.exact,
        "overhead": plan.overhead,
        "cost": plan.cost,
        "status": str(plan.status),
        "gap": plan.gap,
        "seconds": plan.runtime,
        **beside_eager(checked),
        "as_kept": as_kept,
        "ok": checked.ok and checked.exact and as_kept,
    }
    return row, plan.schedule


def beside_eager(checked: Validation) -> dict[str, Any]:
    """What a row says of eager: bit for bit, rounding, or wrong; how much, and what is first."""
    agreement = checked.agreement
    first = agreement.wrong or next(iter(agreement.differences), None)
    verdict = "bitwise" if agreement.bitwise else "rounding" if checked.equal else "wrong"
    return {
        "eager": verdict,
        "eager_difference": agreement.largest,
        "eager_differs": len(agreement.differences),
        "eager_first": None if first is None else str(first),
    }


def bitwise_as_kept(step: Step, schedule: Schedule) -> bool:
    """Whether a schedule leaves the very bits that the captured step with everything kept does."""
    twin = StepTwin.of(step.model, step.captured, step.inputs)
    with twin.restored(), random_states_kept(twin.device):
        planned = Bench(twin.fresh(), schedule, seed=0)
        kept = Bench(twin.fresh(), Schedule.keep_all(step.graph), seed=0)
        return compare_with_eager(planned, kept).bitwise


def line(row: dict[str, Any]) -> str:
    """One printed row."""
    head = f"  {row['solver']:8} {gigabytes(row['budget']):>10}"
    if not row["plan"]:
        return f"{head}  no plan"
    return (
        f"{head}  predicted {row['predicted']:>12,}  measured {row['measured']:>12,}  "
        f"+{100 * row['overhead']:6.2f} %  {row['status']:8} gap {100 * row['gap']:6.2f} %  "
        f"{row['seconds']:5.1f} s  {row['eager']:8}  {'ok' if row['ok'] else 'FAILED'}"
        f"{'' if row['found_by'] == row['solver'] else '  found by ' + row['found_by']}"
    )


def rising(results: list[dict[str, Any]]) -> list[str]:
    """Sweeps in which a larger budget costs more."""
    bad = []
    for result in results:
        for solver in SOLVERS:
            costs = [r["cost"] for r in result["rows"] if r["solver"] == solver and r["plan"]]
            if any(a < b for a, b in pairwise(costs)):
                bad.append(f"{result['model']} {solver}")
    return bad


def settings(n_budgets: int, time_limit: float) -> dict[str, Any]:
    """What decides whether rows that are there already are those that are asked for."""
    return {"budgets": n_budgets, "time_limit": time_limit, "torch": torch.__version__}


def run_or_fail(name: str, n_budgets: int, time_limit: float) -> dict[str, Any]:
    """All rows of one model, or the error that stood in the way."""
    try:
        return run_model(name, n_budgets, time_limit)
    except Exception as error:
        traceback.print_exc()
        return {"model": name, "rows": [], "error": f"{type(error).__name__}: {error}"}


def summarize(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The counts of all models."""
    rows = [row for result in results for row in result["rows"]]
    planned = [row for row in rows if row["plan"]]
    return {
        "models": len(results),
        "rows": len(rows),
        "no_plan": len(rows) - len(planned),
        "no_plan_auto": sum(not r["plan"] and r["solver"] == "auto" for r in rows),
        "failures": sum(not row["ok"] for row in planned),
        "inexact": sum(not row["exact"] for row in planned),
        "bitwise": sum(row["eager"] == "bitwise" for row in planned),
        "rounding": sum(row["eager"] == "rounding" for row in planned),
        "largest_rounding": max((row["eager_difference"] for row in planned), default=0.0),
        "rising_sweeps": rising(results),
        "not_planned": [result["model"] for result in results if "error" in result],
        "minutes": sum(result.get("seconds", 0.0) for result in results) / 60,
    }


def told(summary: dict[str, Any]) -> str:
    """The counts in a sentence."""
    s = summary
    return (
        f"{s['models']} models, {s['rows']} rows, {s['no_plan']} without a plan "
        f"({s['no_plan_auto']} of auto), {s['failures']} failures, {s['inexact']} peaks not to the "
        f"byte; beside eager {s['bitwise']} bitwise, {s['rounding']} up to rounding "
        f"({s['largest_rounding']:.1e} at most); {len(s['rising_sweeps'])} sweeps with a rising "
        f"cost, {len(s['not_planned'])} models not planned, {s['minutes']:.1f} min"
    )


def write(path: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Write what is known so far; returns the counts."""
    summary = summarize(results)
    data = {
        "command": "python benchmarks/zoo.py",
        "date": str(date.today()),
        "pebble": pebble.__version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[1],
        "summary": summary,
        "models": results,
    }
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data, indent=1) + "\n")
    part.replace(path)  # a run that is ended in between leaves a whole file
    return summary


def known(path: Path, asked: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The models of a file of results whose rows are what is asked for."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text())["models"]
    return {r["model"]: r for r in found if r.get("settings") == asked and "error" not in r}


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--models", default=",".join(ZOO), help="comma-separated")
    parser.add_argument("--budgets", type=int, default=5)
    parser.add_argument("--time-limit", type=float, default=5.0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--fresh", action="store_true", help="run what the file has once more")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    there = {} if args.fresh else known(args.output, settings(args.budgets, args.time_limit))
    summary = write(args.output, _in_order(there))
    for name in args.models.split(","):
        if name not in there:
            there[name] = run_or_fail(name, args.budgets, args.time_limit)
            summary = write(args.output, _in_order(there))
    print(f"\n{told(summary)}")
    wrong = ("failures", "no_plan_auto", "rising_sweeps", "not_planned")
    return int(any(summary[key] for key in wrong))


def _in_order(there: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [there[name] for name in ZOO if name in there]


if __name__ == "__main__":
    sys.exit(main())
