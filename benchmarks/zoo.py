"""Every zoo model x budgets x solvers: planned, applied, run, and compared to the byte and the bit.

    python benchmarks/zoo.py [--models gpt2_dropout,resnet] [--budgets 5] [--time-limit 5]

A row passes if the measured peak equals the predicted one, is within the budget, and gradients and
buffers equal those of the captured step with everything kept, bit for bit. Exit status 1 if any
row fails, if `auto` has no plan for a row, or if a cost rises with the budget.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import ZOO

from pebble.budget import least_known_peak
from pebble.errors import InfeasibleBudget
from pebble.formatting import gigabytes
from pebble.measure.step import Step, trace_step
from pebble.plan.optimization import plan_step
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
    model, inputs = ZOO[name]()
    began = time.perf_counter()
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
    row |= {
        "plan": True,
        "predicted": plan.peak_bytes,
        "measured": checked.measured_peak_bytes,
        "overhead": plan.overhead,
        "cost": plan.cost,
        "status": str(plan.status),
        "gap": plan.gap,
        "seconds": plan.runtime,
        "bitwise": checked.ok_bitwise,
        "eager_difference": checked.eager_difference,
    }
    row["ok"] = bool(
        row["bitwise"] and row["measured"] == row["predicted"] and row["measured"] <= budget
    )
    return row, plan.schedule


def line(row: dict[str, Any]) -> str:
    """One printed row."""
    head = f"  {row['solver']:8} {gigabytes(row['budget']):>10}"
    if not row["plan"]:
        return f"{head}  no plan"
    return (
        f"{head}  predicted {row['predicted']:>12,}  measured {row['measured']:>12,}  "
        f"+{100 * row['overhead']:6.2f} %  {row['status']:8} gap {100 * row['gap']:6.2f} %  "
        f"{row['seconds']:5.1f} s  {'ok' if row['ok'] else 'FAILED'}"
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


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(ZOO), help="comma-separated")
    parser.add_argument("--budgets", type=int, default=5)
    parser.add_argument("--time-limit", type=float, default=5.0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    began = time.perf_counter()
    results = [run_model(n, args.budgets, args.time_limit) for n in args.models.split(",")]
    rows = [row for result in results for row in result["rows"]]
    planned = [row for row in rows if row["plan"]]
    failures = [row for row in planned if not row["ok"]]
    unplanned_auto = [r for r in rows if not r["plan"] and r["solver"] == "auto"]
    inverted = rising(results)
    summary = {
        "rows": len(rows),
        "no_plan": len(rows) - len(planned),
        "no_plan_auto": len(unplanned_auto),
        "failures": len(failures),
        "rising_sweeps": inverted,
        "minutes": (time.perf_counter() - began) / 60,
    }
    print(
        f"\n{len(results)} models, {len(rows)} rows, {summary['no_plan']} without a plan "
        f"({len(unplanned_auto)} of auto), {len(failures)} failures, "
        f"{len(inverted)} sweeps with a rising cost, {summary['minutes']:.1f} min"
    )
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(
        json.dumps(
            {
                "command": "python benchmarks/zoo.py",
                "date": str(date.today()),
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "summary": summary,
                "models": results,
            },
            indent=1,
        )
    )
    return int(bool(failures or unplanned_auto or inverted))


if __name__ == "__main__":
    sys.exit(main())
