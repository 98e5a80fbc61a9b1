"""A card beside what was planned for it elsewhere: one command, under nine minutes.

    python benchmarks/gpu_plans.py PLANS --card h200     # before, where no card is
    python benchmarks/gpu.py --plans PLANS               # on the card

Rows: a probe of the device; for thirteen models whether the card traces the graph that was planned,
and requested, allocated and reserved bytes of four plans over five whole steps beside the predicted
ones; for three of them runs at caps of 1.10 to 1.00 x budget with and without expandable segments,
bits beside eager, times of four ways to train, and the allocator's events. Each row has a process;
results are written after every row, and none is begun that would end past `--minutes`. Exit status
1 if a row failed. `--device cpu --tiny` runs all of it without a card, which plans first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from gpu_models import CLOSELY, MODELS, TINY

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "gpu.json"
WAYS = ("eager", "hf checkpointing", "torch budget", "pebble")
DETERMINISTIC = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
ROW_SECONDS = 90.0
LEAST_SECONDS = 15.0


def rows(names: tuple[str, ...], closely: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """What is asked of the device, most telling first."""
    yield {"kind": "probe"}
    for name in names:
        yield {"kind": "model", "model": name}
    for name in closely:
        for expandable in (False, True):
            yield {"kind": "cap", "model": name, "expandable": expandable}
    for name in closely:
        yield {"kind": "bits", "model": name}
    for name in closely:
        for way in WAYS:
            yield {"kind": "time", "model": name, "way": way}
    for name in closely:
        yield {"kind": "snapshot", "model": name}


def run(row: dict[str, Any], seconds: float) -> dict[str, Any]:
    """A row in a process of its own, and what it said."""
    environment = dict(os.environ)
    paths = [str(HERE), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if row["kind"] == "bits":
        environment |= DETERMINISTIC
    if row.get("expandable"):
        environment["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    command = [sys.executable, str(HERE / "gpu_rows.py"), json.dumps(row)]
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=seconds
        )
        said = outcome(done)
    except subprocess.TimeoutExpired:
        said = {"failed": f"it took longer than {seconds:.0f} s"}
    return {**said, "wall_seconds": round(time.perf_counter() - began, 1)}


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    if done.returncode:
        return {"failed": done.stderr.strip()[-600:] or f"exit status {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def write(path: Path, args: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    """The rows so far."""
    data = {
        "command": f"python benchmarks/gpu.py --device {args.device}",
        "date": str(date.today()),
        "tiny": args.tiny,
        "summary": summary(results),
        "rows": results,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """What the rows come to."""
    models = [r for r in results if r["kind"] == "model" and "equal" in r]
    pairs = [
        (budget["measured"]["allocated"], budget["predicted"]["allocated"])
        for r in models
        for budget in r.get("budgets", [])
        if "allocated" in budget.get("measured", {})
    ]
    runs = [run for r in results if r["kind"] == "cap" for run in r.get("runs", [])]
    attention = [c for r in results if r["kind"] == "probe" for c in r.get("attention", [])]
    return {
        "rows": len(results),
        "failed": sum("failed" in r for r in results),
        "skipped": sum("skipped" in r for r in results),
        "equal_fingerprints": f"{sum(r['equal'] for r in models)} of {len(models)}",
        "attention_as_in_the_table": sum(
            c["torch"] == c["table"] for c in attention if "table" in c
        ),
        "largest_error_of_allocated": max((abs(m / p - 1) for m, p in pairs), default=None),
        "out_of_memory_at_the_budget": sum(
            r["outcome"] != "ran" and r["factor"] == 1.0 for r in runs
        ),
        "bitwise": [r.get("bitwise") for r in results if r["kind"] == "bits"],
    }


def plan_here(folder: Path) -> None:
    """The plans of the tiny models for the CPU."""
    command = [sys.executable, str(HERE / "gpu_plans.py"), str(folder), "--card", "cpu", "--tiny",
               "--time-limit", "1"]  # fmt: skip
    subprocess.run(command, check=True)


def main() -> int:
    """Run every row for which there is time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--plans", type=Path)
    parser.add_argument("--tiny", action="store_true", help="two models, small, planned first")
    parser.add_argument("--minutes", type=float, default=8.7)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    end = time.perf_counter() + 60 * args.minutes
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as own:
        plans = args.plans or Path(own)
        if args.plans is None and not args.tiny:
            parser.error("--plans is needed: make them with gpu_plans.py, where no card is")
        if args.plans is None:
            plan_here(plans)
        every = {"device": args.device, "plans": str(plans), "tiny": args.tiny}
        names = TINY if args.tiny else MODELS
        for row in rows(names, TINY[:1] if args.tiny else CLOSELY):
            left = end - time.perf_counter()
            late = {"skipped": "no time was left"}
            limit = left if args.tiny else min(left, ROW_SECONDS)
            said = run({**row, **every}, limit) if left > LEAST_SECONDS else late
            results.append({**row, **said})
            write(args.output, args, results)
            told = " ".join(str(value) for value in row.values())
            state = said.get("failed") or said.get("skipped") or "done"
            sys.stdout.write(f"{told}: {state}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{json.dumps(summary(results))}\n")
    return int(any("failed" in r for r in results))


if __name__ == "__main__":
    sys.exit(main())
