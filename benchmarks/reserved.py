"""What a card's allocator reserves for schedules, and plans that hold that within a budget.

    python benchmarks/reserved.py [--models gpt2_dropout,vit] [--scale 16] [--time-limit 4]

Ten models of the zoo, every tensor `--scale` times as large (as on a card: at their own sizes a
single segment of 20 MB is half of what they need), at four budgets between the least reserved
bytes known and those without a plan. Each row is planned twice: for the bytes of tensors, and with
budget_kind="reserved". All bytes are simulated by the allocator's published rules over three steps
of training with AdamW. A row passes if the second plan runs, in the simulation, at a limit within
the budget (found by bisection). Exit status 1 if one does not.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from models import ZOO

from pebble.allocator.arena import schedule_arena
from pebble.allocator.replays import AllocatorPeaks, least_limit, replay, runs_within
from pebble.allocator.rules import AllocatorSettings
from pebble.allocator.training_events import training_events
from pebble.budget import Footprint, Resident, least_known_peak
from pebble.errors import InfeasibleBudget
from pebble.formatting import gigabytes, table
from pebble.graph import Graph
from pebble.measure.step import Step, trace_step
from pebble.plan.optimization import plan_step
from pebble.plan.plan import Plan
from pebble.schedule import Schedule

MODELS = (
    "gpt2_dropout", "bert_dropout", "llama_small", "llama_lora", "mixtral", "t5", "vit", "whisper",
    "resnet", "unet",
)  # fmt: skip
SHARES = (0.1, 0.35, 0.6, 0.85)
"""Of the way from the least reserved bytes known to those without a plan."""
EXPANDABLE = AllocatorSettings(expandable_segments=True)
RESULTS = Path(__file__).parent / "results" / "reserved.json"


def scaled(step: Step, factor: int) -> Step:
    """The step with every tensor so many times as large."""
    graph, resident = step.graph, step.resident
    larger = Graph(
        [replace(op, workspace=op.workspace * factor) for op in graph.ops],
        [replace(value, size=value.size * factor) for value in graph.values],
        name=graph.name,
        boundary=graph.boundary,
    )
    kinds = {kind: size * factor for kind, size in resident.kinds.items()}
    kept = Resident(kinds, resident.optimizer_step_peak * factor)
    return replace(step, graph=larger, resident=kept)


def peaks(step: Footprint, schedule: Schedule, **settings: Any) -> AllocatorPeaks:
    return replay(training_events(step, schedule), AllocatorSettings(**settings))


def run_model(name: str, scale: int, time_limit: float) -> dict[str, Any]:
    """All rows of one model."""
    model, inputs = ZOO[name]()
    step = scaled(trace_step(model, inputs, optimizer="adamw"), scale)
    footprint = step.footprint
    unplanned = peaks(footprint, Schedule.keep_all(footprint.graph))
    leanest = least_known_peak(footprint, time_limit=2 * time_limit).schedule
    least = peaks(footprint, leanest).reserved
    rows = []
    for share in SHARES:
        budget = int(least + share * (unplanned.reserved - least))
        row = run_row(step, budget, leanest, time_limit)
        rows.append({"model": name, **row})
        print(line(rows[-1]), flush=True)
    return {
        "model": name,
        "ops": len(footprint.graph.ops),
        "unplanned_requested": unplanned.requested,
        "unplanned_reserved": unplanned.reserved,
        "least_reserved": least,
        "rows": rows,
    }


def run_row(step: Step, budget: int, start: Schedule, time_limit: float) -> dict[str, Any]:
    """One budget: the plan for tensors, and the plan for what is reserved."""
    given = start if step.footprint.fits(start, budget) else None
    tensors = plan_step(step, budget, start=given, time_limit=time_limit, budget_kind="allocated")
    row = {"budget": budget, **tensor_figures(tensors)}
    began = time.process_time()
    try:
        plan = plan_step(step, budget, start=given, time_limit=time_limit, budget_kind="reserved")
    except InfeasibleBudget as error:
        return row | {"ok": False, "reason": str(error)}
    limit = least_limit(training_events(plan.footprint, plan.schedule))
    return row | {
        "plan_reserved": plan.held_bytes,
        "plan_requested": plan.peak_bytes,
        "plan_least_limit": limit,
        "plan_overhead": plan.overhead,
        "at_limit": plan.cap.at_limit,
        "seconds": time.process_time() - began,
        "ok": limit <= budget,
    }


def tensor_figures(plan: Plan) -> dict[str, Any]:
    """What a card does with a plan that counts tensors alone."""
    step, schedule = plan.footprint, plan.schedule
    default, expandable = peaks(step, schedule), replay(training_events(step, schedule), EXPANDABLE)
    arena = schedule_arena(step.graph, schedule)
    return {
        "requested": default.requested,
        "allocated": default.allocated,
        "reserved": default.reserved,
        "reserved_expandable": expandable.reserved,
        "arena": step.resident.whole_step_peak(arena.bytes),
        "arena_excess": arena.excess,
        "overhead": plan.overhead,
        "runs_within_budget": runs_within(
            training_events(step, schedule), plan.budget_bytes, AllocatorSettings()
        ),
    }


def beyond(size: int, requested: int) -> str:
    return f"+{100 * (size / requested - 1):.1f} %"


HEADER = [
    "model", "budget", "requested", "allocated", "reserved", "expandable", "arena", "runs in it",
    "extra compute", "held: reserved", "least limit", "extra compute", "",
]  # fmt: skip


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table; sizes beside `requested` as what they exceed it by."""
    requested = row["requested"]
    held = ["-", "-", "-", "FAILED"]
    if "plan_reserved" in row:
        held = [
            gigabytes(row["plan_reserved"]),
            gigabytes(row["plan_least_limit"]),
            f"{100 * row['plan_overhead']:.2f} %",
            "ok" if row["ok"] else "FAILED",
        ]
    return [
        row["model"],
        gigabytes(row["budget"]),
        gigabytes(requested),
        *(beyond(row[key], requested) for key in ("allocated", "reserved", "reserved_expandable")),
        f"+{100 * row['arena_excess']:.2f} %",
        "yes" if row["runs_within_budget"] else "no",
        f"{100 * row['overhead']:.2f} %",
        *held,
    ]


def line(row: dict[str, Any]) -> str:
    return "  ".join(cells(row))


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS), help="comma-separated")
    parser.add_argument("--scale", type=int, default=16)
    parser.add_argument("--time-limit", type=float, default=4.0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    logging.getLogger("pebble").setLevel(logging.ERROR)
    began = time.perf_counter()
    names = args.models.split(",")
    before = kept(args, names)
    results: list[dict[str, Any]] = []
    for name in names:
        results.append(run_model(name, args.scale, args.time_limit))
        write([*before, *results], args, (time.perf_counter() - began) / 60)
    results = [*before, *results]
    rows = [row for result in results for row in result["rows"]]
    print("\n" + table(HEADER, [cells(row) for row in rows]))
    print(f"\n{summary(rows)}")
    return int(any(not row["ok"] for row in rows))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "failures": sum(not row["ok"] for row in rows),
        "tensor_plans_that_run_within_the_budget": sum(r["runs_within_budget"] for r in rows),
        "plans_at_limit": sum(row.get("at_limit", False) for row in rows),
        "largest_arena_excess": max(row["arena_excess"] for row in rows),
    }


def kept(args: argparse.Namespace, names: list[str]) -> list[dict[str, Any]]:
    """What the file has of other models at the same settings."""
    if not args.output.exists():
        return []
    data = json.loads(args.output.read_text())
    same = data["scale"] == args.scale and f"--time-limit {args.time_limit:g}" in data["command"]
    return [m for m in data["models"] if m["model"] not in names] if same else []


def write(results: list[dict[str, Any]], args: argparse.Namespace, minutes: float) -> None:
    """The results so far: after every model, so that a run that is cut short leaves something."""
    rows = [row for result in results for row in result["rows"]]
    data = {
        "command": f"python benchmarks/reserved.py --time-limit {args.time_limit:g}",
        "date": str(date.today()),
        "torch": torch.__version__,
        "scale": args.scale,
        "minutes": minutes,
        "summary": summary(rows),
        "models": results,
    }
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(data, indent=1))


if __name__ == "__main__":
    sys.exit(main())
