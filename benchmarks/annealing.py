"""The annealer's speed and memory at 5,000 and 50,000 ops.

    python benchmarks/annealing.py [--sizes 5000,50000] [--trials 2000000]

Training steps of random layers (`generators.layered`), budget 60 % of the peak of running every op
once. Trials per second of one thread, over a whole cooling run from the reference order, compiled
beforehand. Bytes per op: all arrays that the kernels hold for one run (the graph, the schedule
under search, the undo log, the best schedule), over the number of ops.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from generators import layered

from pebble.formatting import table
from pebble.graph import Graph
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule

RESULTS = Path(__file__).parent / "results" / "annealing.json"
WIDTH = 4


def step_of(ops: int) -> Graph:
    """A random layered training step of about so many ops."""
    return layered(max(ops // (2 * WIDTH), 1), WIDTH, seed=1)


def measure(ops: int, trials: int) -> dict[str, Any]:
    """Speed and memory of one cooling run."""
    from pebble.solvers.annealing.boards import board_of, net_of
    from pebble.solvers.annealing.cooling import cool
    from pebble.solvers.annealing.runs import Cooling

    graph = step_of(ops)
    order = tuple(range(len(graph.ops)))
    peak = simulate(graph, Schedule(order)).peak
    problem = Problem(graph, int(0.6 * peak))
    net = net_of(problem)
    cooling = Cooling(
        trials=trials, hot=1e-3, cold=1e-5, penalty=1.0, adds=40, removes=56, chain=160, seed=1
    )
    board = board_of(net, order, problem.budget, 1)
    held = nbytes(net) + nbytes(board)
    used, began = time.process_time(), time.perf_counter()
    outcome = cool(problem, net, order, cooling)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    end = Schedule(outcome.best if outcome.best is not None else outcome.last)
    trace = simulate(problem, end)
    return {
        "ops": len(graph.ops),
        "trials": outcome.trials,
        "trials_per_second": outcome.trials / seconds,
        "trials_per_cpu_second": outcome.trials / cpu,
        "bytes_per_op": held / len(graph.ops),
        "peak_over_budget": trace.peak / problem.budget,
        "overhead": trace.recomputed_cost / graph.total_cost,
    }


def nbytes(arrays: Iterable[Any]) -> int:
    """Bytes of all arrays of a tuple."""
    return sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description="The annealer's speed and memory.")
    parser.add_argument("--sizes", default="5000,50000")
    parser.add_argument("--trials", type=int, default=2_000_000)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    measure(500, 1000)  # compile
    rows = [measure(int(size), args.trials) for size in args.sizes.split(",")]
    for row in rows:
        row["speed_beside_first"] = row["trials_per_cpu_second"] / rows[0]["trials_per_cpu_second"]
    head = {
        "command": "python benchmarks/annealing.py",
        "date": str(date.today()),
        "machine": f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}",
        "note": "One thread.",
    }
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps({**head, "rows": rows}, indent=1) + "\n")
    body = [
        [
            str(row["ops"]),
            f"{row['trials_per_second']:,.0f}",
            f"{row['trials_per_cpu_second']:,.0f}",
            f"{row['speed_beside_first']:.2f}",
            f"{row['bytes_per_op']:,.0f}",
        ]
        for row in rows
    ]
    print(table(["ops", "trials/s", "trials/CPU s", "beside first", "bytes/op"], body))
    return 0


if __name__ == "__main__":
    sys.exit(main())
