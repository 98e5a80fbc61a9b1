"""Zoo models through the back end with inductor inside: gradients, and measured peaks in budgets.

    python benchmarks/inductor_zoo.py [--models resnet,vit] [--shares 0.5] [--fresh]

Each model runs in a process of its own. A row plans within the least peak known of the fused graph
plus a share of the way to everything kept, measures a step of the compiled model (profiler of the
allocator, outputs and gradients held) and compares the gradients with eager's, or, where the model
draws random numbers, with those of inductor by itself under the same seed. A row passes if the
measured peak is within the budget, the gradients agree to 2e-4 of each tensor's largest entry, and
0.93 of the budget is used unless nothing runs again. Results are written after every model; models
that the file has are not run again.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import torch
from models import ZOO
from torch import nn
from torch.utils._pytree import tree_leaves

import pebble
from pebble.budget import least_known_peak
from pebble.formatting import gigabytes
from pebble.measure.allocator import trace_memory
from pebble.options import StepOptions
from pebble.plan.fused.joint import FusedStep, see_step

RESULTS = Path(__file__).parent / "results" / "inductor_zoo.json"
ROUNDING = 2e-4
ENOUGH = 0.93


def loss_of(output: Any) -> torch.Tensor:
    """The model's own loss, or the sum of what it returns."""
    if isinstance(output, torch.Tensor):
        return output if output.dim() == 0 else output.sum()
    loss = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if loss is None:
        leaves = [t for t in tree_leaves(output) if isinstance(t, torch.Tensor) and t.requires_grad]
        loss = torch.stack([t.sum() for t in leaves]).sum()
    return loss


def step(model: nn.Module, inputs: dict[str, Any]) -> float:
    """One forward and backward from the same random state; gradients stay in the model."""
    torch.manual_seed(0)
    loss = loss_of(model(**inputs))
    loss.backward()
    return float(loss.detach())


def compiled_step(name: str, **options: Any) -> dict[str, Any]:
    """Gradients and the measured peak of a compiled model."""
    torch._dynamo.reset()
    model, inputs = ZOO[name]()
    run = torch.compile(model, **options)
    began = time.perf_counter()
    loss = step(run, inputs)
    seconds = time.perf_counter() - began
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    peak = trace_memory(lambda: step(run, inputs)).peak
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in resident(model)}
    held |= {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
        for t in tree_leaves(inputs)
        if isinstance(t, torch.Tensor)
    }
    return {
        "loss": loss,
        "gradients": gradients,
        "peak": peak + sum(held.values()),
        "resident": sum(held.values()),
        "seconds": seconds,
    }


def resident(model: nn.Module) -> list[torch.Tensor]:
    """Parameters and buffers."""
    return [*model.parameters(), *model.buffers()]


def difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest difference of two sets of gradients, over each tensor's largest entry."""
    if a.keys() != b.keys():
        return float("inf")
    return max(
        float((a[n] - b[n]).abs().max() / b[n].abs().max().clamp_min(1e-12))
        if b[n].numel()
        else 0.0
        for n in b
    )


def seen_steps(name: str) -> list[FusedStep]:
    """The steps that inductor would compile for a model, nothing compiled."""
    torch._dynamo.reset()
    model, inputs = ZOO[name]()
    found: list[FusedStep] = []

    def back_end(module: Any, _: Any) -> Any:
        def run(*args: Any) -> Any:
            seen = see_step(module, args, StepOptions(optimizer=None))
            if isinstance(seen, FusedStep):
                found.append(seen)
            return module(*args)

        return run

    step(torch.compile(model, backend=back_end), inputs)
    return found


def draws(model: nn.Module) -> bool:
    """Whether a step depends on random numbers."""
    drops = (m for m in model.modules() if isinstance(m, nn.Dropout))
    return any(m.p > 0 for m in drops) or "rand" in inspect.getsource(type(model))


def eager_step(name: str) -> dict[str, torch.Tensor]:
    """Gradients of the model as it is."""
    model, inputs = ZOO[name]()
    step(model, inputs)
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def run_model(name: str, shares: list[float], time_limit: float) -> dict[str, Any]:
    """All rows of one model, in this process."""
    began = time.perf_counter()
    model, _ = ZOO[name]()
    steps = seen_steps(name)
    floor = max(least_known_peak(one.footprint, time_limit=5).peak_bytes for one in steps)
    kept = max(one.footprint.unplanned_peak for one in steps)
    random = draws(model) or name.startswith("autocast")  # inductor rounds halves less often
    compared = compiled_step(name, backend="inductor")["gradients"] if random else eager_step(name)
    rows = []
    for share in shares:
        budget = int(floor + share * (kept - floor))
        rows.append(run_row(name, budget, share, compared, time_limit))
    return {
        "model": name,
        "compared_with": "inductor" if random else "eager",
        "kept_bytes": kept,
        "least_bytes": floor,
        "graphs": len(steps),
        "rows": rows,
        "seconds": round(time.perf_counter() - began, 1),
    }


def run_row(
    name: str, budget: int, share: float, kept: dict[str, torch.Tensor], time_limit: float
) -> dict[str, Any]:
    """One budget."""
    reports: list[Any] = []
    options = {
        "budget_bytes": budget,
        "inner": "inductor",
        "time_limit": time_limit,
        "on_report": reports.append,
    }
    row: dict[str, Any] = {"model": name, "share": share, "budget": budget, "plan": False}
    try:
        made = compiled_step(name, backend="pebble", options=options)
    except pebble.InfeasibleBudget as error:
        return row | {"reason": str(error), "ok": False}
    off = difference(made["gradients"], kept)
    again = sum(report.recomputed for report in reports)
    within = made["peak"] <= budget
    full = not again or made["peak"] >= ENOUGH * budget
    return row | {
        "plan": True,
        "measured": made["peak"],
        "rounds": [[r.predicted_bytes, r.measured_bytes] for s in reports for r in s.rounds],
        "recomputed": again,
        "difference": off,
        "within": within,
        "full": full,
        "seconds": round(made["seconds"], 1),
        "ok": within and full and off <= ROUNDING,
    }


def line(row: dict[str, Any]) -> str:
    """One printed row."""
    head = f"  {row['model']:14} {row['share']:.2f} {gigabytes(row['budget']):>10}"
    if not row["plan"]:
        return f"{head}  no plan: {row['reason']}"
    verdict = "ok" if row["ok"] else "FAILED"
    return (
        f"{head}  measured {gigabytes(row['measured']):>10} ({row['measured'] / row['budget']:.3f})"
        f"  {len(row['rounds'])} rounds  {row['recomputed']} again  "
        f"gradients {row['difference']:.1e}  {row['seconds']:.0f} s  {verdict}"
    )


def in_own_process(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The rows of a model, or the error that stood in the way."""
    command = [sys.executable, __file__, "--one", name, "--shares", args.shares]
    command += ["--time-limit", str(args.time_limit)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=args.patience)
    except subprocess.TimeoutExpired:
        return {"model": name, "rows": [], "error": f"took more than {args.patience} s"}
    lines = ran.stdout.splitlines()
    if ran.returncode or not lines:
        said = [text for text in ran.stderr.splitlines() if text.strip()]
        return {"model": name, "rows": [], "error": said[-1][:400] if said else "no output"}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def write(path: Path, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Write what is known so far; returns the counts."""
    rows = [row for result in results.values() for row in result["rows"]]
    planned = [row for row in rows if row["plan"]]
    summary = {
        "models": len(results),
        "rows": len(rows),
        "no_plan": len(rows) - len(planned),
        "within": sum(row["within"] for row in planned),
        "full": sum(row["full"] for row in planned),
        "gradients": sum(row["difference"] <= ROUNDING for row in planned),
        "passed": sum(row["ok"] for row in rows),
        "not_planned": [r["model"] for r in results.values() if "error" in r],
    }
    data = {
        "command": "python benchmarks/inductor_zoo.py",
        "date": str(date.today()),
        "pebble": pebble.__version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "summary": summary,
        "models": [results[name] for name in ZOO if name in results],
    }
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data, indent=1) + "\n")
    part.replace(path)
    return summary


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--models", default=",".join(ZOO), help="comma-separated")
    parser.add_argument("--shares", default="0.5", help="comma-separated")
    parser.add_argument("--time-limit", type=float, default=8.0)
    parser.add_argument("--patience", type=float, default=900.0, help="seconds for a model")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--fresh", action="store_true", help="run what the file has once more")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        shares = [float(share) for share in args.shares.split(",")]
        print(json.dumps(run_model(args.one, shares, args.time_limit)))
        return 0
    there: dict[str, dict[str, Any]] = {}
    if args.output.exists() and not args.fresh:
        found = json.loads(args.output.read_text())["models"]
        there = {r["model"]: r for r in found if "error" not in r}
    summary = write(args.output, there)
    for name in args.models.split(","):
        if name not in there:
            there[name] = in_own_process(name, args)
            for row in there[name]["rows"]:
                print(line(row), flush=True)
            if "error" in there[name]:
                print(f"  {name}: {there[name]['error']}", flush=True)
            summary = write(args.output, there)
    print(f"\n{summary}")
    return int(summary["passed"] < summary["rows"] or bool(summary["not_planned"]))


if __name__ == "__main__":
    sys.exit(main())
