"""Published graphs with published results, and our columns beside them.

    python benchmarks/published.py DIR [--time-limit 40] [--seeds 5] [--solver auto]

DIR holds graphs in the text format of `pebble.graphfile` (RL1.txt, RL2.txt, RL3.txt,
CM1_fcn8vgg.txt, VGG16_train.txt); they are not part of this project. Each answer comes from the
command line in a process of its own and is replayed here by a walk of its own, not by the referee.
Each run notes its processor seconds and the load average of the machine: where that is above the
number of cores, other work took part of the time.
Cells of earlier runs that were not run now, and those of other time limits, stay in the results
file.
CI % = 100 x (cost over all executions / cost of running everything once - 1).

Published: Checkmate MILP and MOCCASIN as in the MOCCASIN paper (ICML 2023), FastSA as in its paper
(NeurIPS 2023).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from pebble.formatting import table

RESULTS = Path(__file__).parent / "results" / "published.json"
# graph, budget in % of the baseline peak, CI % of Checkmate's MILP, MOCCASIN, FastSA ("" = none)
CELLS = [
    ("RL1", 90, "0.8", "0.8", "0.0"),
    ("RL1", 80, "2.3", "2.3", "0.3"),
    ("RL1", 70, "", "", "2.2"),
    ("RL1", 65, "", "", ""),
    ("RL2", 90, "0.9", "0.9", "0.0"),
    ("RL2", 80, "", "4.9", "0.0"),
    ("RL2", 70, "", "", "2.6"),
    ("RL3", 90, "", "0.7", "0.03"),
    ("RL3", 80, "", "3.4", "2.3"),
    ("RL3", 70, "", "", "4.8 (over budget)"),
    ("CM1_fcn8vgg", 90, "0.0", "0.0", "0.1"),
    ("CM1_fcn8vgg", 80, "0.1", "0.1", "0.1"),
    ("CM1_fcn8vgg", 70, "", "", "3.0"),
    ("CM1_fcn8vgg", 65, "", "", ""),
    ("VGG16_train", 90, "", "", ""),
]


def replay(path: Path, order: list[int]) -> tuple[int, int, int]:
    """(peak, cost, base cost) of an order on a file, by its own walk over its own reading."""
    numbers = iter(path.read_text().split())
    n, m = int(next(numbers)), int(next(numbers))
    size, cost = zip(*[(int(next(numbers)), int(next(numbers))) for _ in range(n)])
    reads: list[list[int]] = [[] for _ in range(n)]
    for _ in range(m):
        u, v = int(next(numbers)), int(next(numbers))
        reads[v].append(u)
    last: dict[tuple[int, int], int] = {}
    copy: dict[int, int] = {}
    for step, v in enumerate(order):
        for u in reads[v]:
            last[u, copy[u]] = step  # a KeyError here is an illegal schedule
        copy[v] = step
        last[v, step] = step
    assert set(order) == set(range(n)), "an op never runs"
    ends: dict[int, list[int]] = {}
    for (v, _), end in last.items():
        ends.setdefault(end, []).append(v)
    live = peak = 0
    for step, v in enumerate(order):
        live += size[v]
        peak = max(peak, live)
        live -= sum(size[u] for u in ends.get(step, ()))
    return peak, sum(cost[v] for v in order), sum(cost)


def _child_seconds() -> float:
    """Processor seconds of all processes started and ended so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def solve(path: Path, budget: int, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One run of the command line, replayed."""
    command = [
        sys.executable, "-m", "pebble", "solve", str(path), "--budget", f"{budget}%", "--json",
        "--solver", options.solver, "--time-limit", str(options.time_limit), "--seed", str(seed),
    ]  # fmt: skip
    if options.order:
        command += ["--order", options.order]
    began, before = time.perf_counter(), _child_seconds()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if not done.stdout:
        raise RuntimeError(done.stderr)
    answer = json.loads(done.stdout)
    row = {"seed": seed, "seconds": seconds, "status": answer["status"], "ci": None}
    row["scope"], row["load"] = answer["bound_scope"], os.getloadavg()[0]
    row["cpu_seconds"] = _child_seconds() - before
    if answer["order"] is not None:
        peak, cost, base = replay(path, answer["order"])
        assert (peak, cost) == (answer["peak"], answer["cost"]), "the replay disagrees"
        assert peak <= answer["baseline_peak"] * budget // 100, "over budget"
        row["ci"] = 100 * (cost / base - 1)
        row["bound"] = 100 * (answer["lower_bound"] / base - 1)
    return row


def _joined(earlier: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cells of both runs by time limit in the order of `CELLS`, those of now before others."""
    order = [(name, budget) for name, budget, *_ in CELLS]

    def key(cell: dict[str, Any]) -> tuple[float, int]:
        return cell["time_limit"], order.index((cell["graph"], cell["budget"]))

    found = {key(cell): cell for cell in (*earlier, *now)}
    return [found[k] for k in sorted(found)]


def main() -> int:
    """Run all cells and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--time-limit", type=float, default=40.0)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--solver", default="auto")
    parser.add_argument("--order", choices=("free", "fixed"))
    parser.add_argument("--cells", default="", help="comma-separated graph:budget, default all")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    wanted = {tuple(c.split(":")) for c in options.cells.split(",") if c}
    rows, data = [], []
    for name, budget, milp, moccasin, fastsa in CELLS:
        if wanted and (name, str(budget)) not in wanted:
            continue
        path = options.folder / f"{name}.txt"
        runs = [solve(path, budget, options, seed) for seed in range(options.seeds)]
        found = [run["ci"] for run in runs if run["ci"] is not None]
        shown = [f"{run['ci']:.3f}" if run["ci"] is not None else "none" for run in runs]
        median = statistics.median(found) if found else float("nan")
        status = "/".join(sorted({f"{run['status']} ({run['scope']})" for run in runs}))
        rows.append([f"{name} {budget}", milp or "-", moccasin or "-", fastsa or "-",
                     f"{median:.3f}", " ".join(shown), status])  # fmt: skip
        data.append({
            "graph": name, "budget": budget, "time_limit": options.time_limit,
            "median_ci": median, "runs": runs,
        })  # fmt: skip
        print(f"{name} {budget} %: {' '.join(shown)}  {status}", file=sys.stderr, flush=True)
    header = ["CI %", "Checkmate", "MOCCASIN", "FastSA", "ours (median)", "every seed", "status"]
    print(table(header, rows))
    options.output.parent.mkdir(exist_ok=True)
    if options.output.exists():
        data = _joined(json.loads(options.output.read_text())["cells"], data)
    facts = {
        "command": " ".join(sys.argv),
        "date": str(date.today()),
        "cores": os.cpu_count(),
        "cells": data,
    }
    options.output.write_text(json.dumps(facts, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
