"""More budget never costs more, in separate calls: models x budgets, each planned alone.

    python benchmarks/sweeps.py [--models vae,resnet] [--budgets 20] [--time-limit 1] [--fresh]

The budgets of a model come in drawn order, each with a seed of its own and without a start: what
one call knows of another is only what the process remembers. They lie from a little below the
least peak that a short search finds to the peak without a plan.

A rise: a call costs more than an earlier one with no more budget. A refusal counts where the
budget is at or above a peak that an earlier call has reached or named. Both must be 0. Beside them
stands how often a later call with less budget found something cheaper than an earlier one with
more, which no memory can prevent. Results are written after every model, and models that the file
has are not run again.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from models import ZOO

from pebble.budget import least_known_peak
from pebble.errors import InfeasibleBudget
from pebble.measure.step import Step, trace_step
from pebble.plan.known_schedules import KNOWN
from pebble.plan.optimization import plan_step

RESULTS = Path(__file__).parent / "results" / "sweeps.json"
MODELS = "vit,resnet,unet,lstm_cell,vae,opt"


@dataclass(frozen=True)
class Call:
    """One budget, planned alone; costs and peaks are None where it was refused.

    Attributes
    ----------
    budget_bytes, peak_bytes, least_bytes : int
        Least: the budget that a refusal named as known to work.
    """

    budget_bytes: int
    seed: int
    cost: int | None = None
    peak_bytes: int | None = None
    least_bytes: int | None = None

    @property
    def known_bytes(self) -> int | None:
        """The peak that this call makes known."""
        return self.peak_bytes if self.least_bytes is None else self.least_bytes


def call(step: Step, budget: int, seed: int, time_limit: float) -> Call:
    """Plan one budget."""
    try:
        plan = plan_step(step, budget, seed=seed, time_limit=time_limit)
    except InfeasibleBudget as error:
        return Call(budget, seed, least_bytes=error.least_bytes)
    return Call(budget, seed, plan.cost, plan.peak_bytes)


def rises(calls: list[Call]) -> int:
    """Calls that cost more than an earlier one with no more budget."""
    return sum(
        later.cost is not None
        and any(
            c.cost is not None and c.budget_bytes <= later.budget_bytes and c.cost < later.cost
            for c in calls[:i]
        )
        for i, later in enumerate(calls)
    )


def found_later(calls: list[Call]) -> int:
    """Calls that a later one with no more budget undercuts."""
    return rises(calls[::-1])


def refusals(calls: list[Call]) -> int:
    """Calls that were refused though an earlier one has reached or named a peak that fits."""
    return sum(
        later.cost is None
        and any(
            c.known_bytes is not None and c.known_bytes <= later.budget_bytes for c in calls[:i]
        )
        for i, later in enumerate(calls)
    )


def run_model(name: str, n_budgets: int, time_limit: float) -> dict[str, Any]:
    """The calls of one model."""
    began = time.perf_counter()
    model, inputs = ZOO[name]()
    step = trace_step(model, inputs, optimizer=None)
    KNOWN.forget()
    rng = random.Random(name)
    least = least_known_peak(step.footprint, time_limit=time_limit).peak_bytes
    low, high = 0.95 * least, step.footprint.unplanned_peak
    budgets = [int(b) for b in np.linspace(low, high, n_budgets)]
    rng.shuffle(budgets)
    calls = [call(step, budget, rng.randrange(10**6), time_limit) for budget in budgets]
    return {
        "model": name,
        "settings": {"budgets": n_budgets, "time_limit": time_limit},
        "seconds": round(time.perf_counter() - began, 1),
        "rises": rises(calls),
        "refusals": refusals(calls),
        "found_later": found_later(calls),
        "refused": sum(c.cost is None for c in calls),
        "calls": [asdict(c) for c in calls],
    }


def write(path: Path, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Write what is known so far; returns the counts."""
    counted = ("rises", "refusals", "found_later", "refused")
    summary = {
        "models": len(results),
        "budgets": max((len(result["calls"]) for result in results), default=0),
        "plans": sum(len(r["calls"]) - r["refused"] for r in results),
        **{key: sum(result[key] for result in results) for key in counted},
    }
    data = {
        "command": "python benchmarks/sweeps.py",
        "date": str(date.today()),
        "torch": torch.__version__,
        "summary": summary,
        "models": results,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")
    return summary


def main() -> int:
    """Run, print, write; 1 if a cost rises or a budget that is known to work is refused."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--models", default=MODELS, help="comma-separated")
    parser.add_argument("--budgets", type=int, default=20)
    parser.add_argument("--time-limit", type=float, default=1.0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--fresh", action="store_true", help="run what the file has once more")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    asked = {"budgets": args.budgets, "time_limit": args.time_limit}
    there: dict[str, Any] = {}
    if args.output.exists() and not args.fresh:
        found = json.loads(args.output.read_text())["models"]
        there = {r["model"]: r for r in found if r["settings"] == asked}
    for name in args.models.split(","):
        if name not in there:
            there[name] = run_model(name, args.budgets, args.time_limit)
            shown = {k: v for k, v in there[name].items() if k not in ("calls", "settings")}
            print(json.dumps(shown), flush=True)
            write(args.output, list(there.values()))
    summary = write(args.output, list(there.values()))
    print(summary)
    return int(bool(summary["rises"] or summary["refusals"]))


if __name__ == "__main__":
    sys.exit(main())
