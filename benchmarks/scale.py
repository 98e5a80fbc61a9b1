"""Planning at scale: joint graphs of Hugging Face models, at half and a quarter of their memory.

    python benchmarks/scale.py [--models gpt2,vit-base] [--outputs loss] [--time-limit 8] [--again]

Every model of `configurations` is captured on fake tensors in a process of its own; the graph is
then planned by `auto` in a second, torch-free process. Results are written as they come; models
that have a result are left out unless `--again` is given.

What is measured
    *Step*: forward and backward that hand over the loss and the gradients, as in the graphs of
    Checkmate, MOCCASIN and FastSA (`outputs="loss"`). With `--outputs all` whatever the model
    returns stays in memory to the end besides, for a language model the logits; these results
    go into a file of their own.
    *Activation peak*: parameters, inputs and gradients count as resident from the first step to
    the last (gradients weigh nothing on the schedule's meter, as if allocated before it). The
    activation peak is what the step, running every op once, has in memory beyond them at its
    worst moment. Budgets are 50 % and 25 % of it. No memory is gained by counting gradients so:
    the peak of the unplanned step usually lies at the beginning of the backward, where few exist.
    *Costs*: the roofline of one A100 (`costs="roofline:a100"`), so that every op that is no view
    costs at least its bytes over the bandwidth; cost overhead is extra cost over that of every op
    once. Models compute in fp32, transformers' default, without TF32.
    *Floor*: a budget for which no plan was found is replaced by 1.05 x the least peak that
    `minimum_budget` reaches, and the row says so; the summary counts these rows apart.
    *Times* in seconds of the wall clock: `planning` of `solve(..., "auto")` with compiled kernels
    in the disk cache; `settled` until the cost was within half a percentage point of its final
    value; `first` until the first plan within the budget, in a fresh process with an empty compile
    cache; `capture` of the model, apart from planning. `*_cpu` are seconds of processor time, all
    threads together, which other programs on the machine disturb less. `rss_mb` is the peak of the
    process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import mean
from typing import Any

from configurations import CONFIGURATIONS, LAYERED

from pebble.formatting import table
from pebble.graph import Graph, Phase
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Progress, solve

DEVICE = "a100"
SHARES = (0.5, 0.25)
ORDINARY = frozenset(CONFIGURATIONS)
"""Models of the summary; the layered ones make a table of their own."""
RESULTS = Path(__file__).parent / "results"
FILES = {"loss": RESULTS / "scale.json", "all": RESULTS / "scale_all_outputs.json"}
"""Results by what the planned step hands over."""


def rss_mb() -> int:
    """Peak resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


# -- one process captures ----------------------------------------------------------------------


def capture(name: str, path: Path, outputs: str) -> dict[str, Any]:
    """Write the joint graph of a model to `path`; returns what capturing took."""
    from configurations import build

    from pebble.measure.step import trace_step

    began = time.perf_counter()
    model, inputs = build(name)
    built = time.perf_counter()
    costs = f"roofline:{DEVICE}"
    step = trace_step(model, inputs, optimizer=None, costs=costs, outputs=outputs)
    seconds = time.perf_counter() - built
    path.write_text(json.dumps(step.graph.to_json()))
    return {
        "nodes": sum(node.op == "call_function" for node in step.captured.joint.graph.nodes),
        "build_seconds": built - began,
        "capture_seconds": seconds,
        "capture_rss_mb": rss_mb(),
    }


# -- another one plans ---------------------------------------------------------------------------


def activations(graph: Graph) -> Graph:
    """The graph with gradients on the resident side: results of the backward weigh nothing."""
    gradients = {v for op in graph.ops if op.phase is Phase.BACKWARD for v in op.outputs}
    values = [
        replace(value, size=0) if value.pinned and v in gradients else value
        for v, value in enumerate(graph.values)
    ]
    return Graph(graph.ops, values, name=graph.name, boundary=graph.boundary)


def load(path: Path) -> tuple[Graph, int]:
    """The graph and its activation peak."""
    graph = activations(Graph.from_json(json.loads(path.read_text())))
    return graph, simulate(graph, Schedule.keep_all(graph)).peak


def plan(path: Path, time_limit: float) -> dict[str, Any]:
    """Plan at both budgets with the compiled kernels ready."""
    graph, peak = load(path)
    toy = Graph.from_json(json.loads(path.read_text()))
    solve(Problem(toy, peak), "anneal", time_limit=1.0, iterations=1000)  # load compiled kernels
    rows = [plan_row(graph, peak, share, time_limit) for share in SHARES]
    return {"ops": len(graph.ops), "peak_bytes": peak, "rss_mb": rss_mb(), "rows": rows}


def plan_row(graph: Graph, peak: int, share: float, time_limit: float) -> dict[str, Any]:
    """One budget."""
    from pebble.solvers.minpeak import minimum_budget

    budget, floor = int(share * peak), None
    row = solve_row(graph, budget, time_limit)
    if row["overhead"] is None:
        _, floor, bound = minimum_budget(graph, time_limit=10.0)
        budget = min(int(1.05 * floor), peak)
        row = solve_row(graph, budget, time_limit) | {"floor": floor, "floor_bound": bound}
    return {"share": share, "budget": budget, "at_floor": floor is not None, **row}


def solve_row(graph: Graph, budget: int, time_limit: float) -> dict[str, Any]:
    """Cost, bound and times of one solve by `auto`."""
    seen: list[Progress] = []
    began, used = time.process_time(), []

    def note(progress: Progress) -> None:
        seen.append(progress)
        used.append(time.process_time() - began)

    result = solve(Problem(graph, budget), "auto", time_limit=time_limit, report=note)
    row: dict[str, Any] = {
        "planning": result.runtime,
        "planning_cpu": time.process_time() - began,
        "overhead": None,
    }
    if result.trace is None:
        return row
    total, cost = graph.total_cost, result.trace.cost
    enough = cost + total / 200
    costs = [p.incumbent for p in seen]
    near = next((k for k, c in enumerate(costs) if c is not None and c <= enough), None)
    return row | {
        "overhead": result.trace.recomputed_cost / total,
        "gap": result.gap,
        "bound": result.lower_bound / total - 1,
        "bound_scope": str(result.scope),
        "peak": result.trace.peak,
        "settled": result.runtime if near is None else seen[near].seconds,
        "settled_cpu": row["planning_cpu"] if near is None else used[near],
        "source": next((p.source for p in seen if p.incumbent == cost), ""),
    }


def first_plan(path: Path, budget: int) -> dict[str, Any]:
    """Seconds to the first plan within the budget; called in a fresh process with a cold cache."""
    graph, _ = load(path)

    def done(progress: Progress) -> None:
        if progress.incumbent is None:
            return
        data = {
            "first": time.perf_counter() - began,
            "first_cpu": time.process_time() - used,
            "first_overhead": progress.incumbent / graph.total_cost - 1,
        }
        print(json.dumps(data), flush=True)
        os._exit(0)  # the kernels may be compiling in another thread

    began, used = time.perf_counter(), time.process_time()
    solve(Problem(graph, budget), "auto", time_limit=60, report=done)
    return {"first": None, "first_cpu": None, "first_overhead": None}


# -- the parent ----------------------------------------------------------------------------------


def child(*arguments: str, **environment: str) -> dict[str, Any]:
    """Run this file with arguments; its last line of output is JSON."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["?"])[-1]
        return {"error": re.sub(r"\S*/site-packages/", "", last)}
    data: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return data


def run_model(name: str, time_limit: float, graphs: Path, outputs: str) -> dict[str, Any]:
    """Capture and plan one model; the graph stays in `graphs`."""
    graph, note = graphs / f"{name}.json", graphs / f"{name}.capture"
    if not (graph.exists() and note.exists()):
        note.write_text(json.dumps(child("--capture", name, str(graph), outputs)))
    result = {"model": name, **json.loads(note.read_text())}
    if "error" in result:
        note.unlink()
        return result
    result |= child("--plan", str(graph), str(time_limit))
    for row in result.get("rows", []):
        with tempfile.TemporaryDirectory() as cache:
            row |= child("--first", str(graph), str(row["budget"]), NUMBA_CACHE_DIR=cache)
    return result


def cold_planning(graph: Path, time_limit: float) -> dict[str, Any]:
    """The whole planning of one graph with an empty compile cache."""
    with tempfile.TemporaryDirectory() as cache:
        return child("--cold", str(graph), str(time_limit), NUMBA_CACHE_DIR=cache)


def cold(path: Path, time_limit: float) -> dict[str, Any]:
    """Planning at half the peak in a process that has compiled nothing."""
    graph, peak = load(path)
    return solve_row(graph, peak // 2, time_limit)


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """What the table comes to."""
    good = [r for r in results if "rows" in r and r["model"] in ORDINARY]
    rows = [row for r in good for row in r["rows"]]
    found: dict[str, Any] = {
        "models": len(good),
        "failed": [r["model"] for r in results if "rows" not in r],
        "planning_mean": mean(row["planning"] for row in rows),
        "planning_most": max(row["planning"] for row in rows),
        "planning_cpu_mean": mean(row["planning_cpu"] for row in rows),
        "first_most": max(row["first"] or 1e9 for row in rows),
        "first_cpu_most": max(row["first_cpu"] or 1e9 for row in rows),
        "rss_mb_most": max(max(r["rss_mb"], r["capture_rss_mb"]) for r in good),
        "nodes": [min(r["nodes"] for r in good), max(r["nodes"] for r in good)],
    }
    for share in SHARES:
        mine = [row for row in rows if row["share"] == share and row["overhead"] is not None]
        plain = [row["overhead"] for row in mine if not row["at_floor"]]
        percent = f"{100 * share:.0f}"
        found[f"overhead_mean_{percent}"] = mean(plain) if plain else None
        found[f"models_{percent}"] = len(plain)
        proved = [row["bound"] for row in mine if not row["at_floor"]]
        found[f"bound_mean_{percent}"] = mean(proved) if proved else None
        gaps = [row["gap"] for row in mine]
        found[f"gap_mean_{percent}"], found[f"gap_most_{percent}"] = mean(gaps), max(gaps)
        found[f"overhead_mean_{percent}_with_floors"] = mean(row["overhead"] for row in mine)
    return found


def lines(results: list[dict[str, Any]]) -> str:
    """The table."""
    header = ["model", "nodes", "ops", "capture", "MB", "budget", "extra cost", "gap", "planning",
              "settled", "first", "CPU", "by"]  # fmt: skip
    body = []
    for r in sorted((r for r in results if "rows" in r), key=lambda r: r["nodes"]):
        for row in r["rows"]:
            if row["overhead"] is None:
                continue
            share = f"{100 * row['budget'] / r['peak_bytes']:.0f} %"
            budget = share + (" (floor x 1.05)" if row["at_floor"] else "")
            first = "-" if row["first"] is None else f"{row['first']:.2f} s"
            body.append(
                [r["model"], str(r["nodes"]), str(r["ops"]), f"{r['capture_seconds']:.0f} s",
                 str(r["rss_mb"]), budget, f"{100 * row['overhead']:.2f} %",
                 f"{100 * row['gap']:.2f} %", f"{row['planning']:.1f} s",
                 f"{row['settled']:.2f} s", first,
                 f"{row['settled_cpu']:.2f} s", row["source"]]
            )  # fmt: skip
    return table(header, body)


def main() -> int:
    """Run what the arguments say; returns the exit status."""
    jobs: dict[str, Callable[..., dict[str, Any]]] = {
        "--capture": lambda name, path, outputs: capture(name, Path(path), outputs),
        "--plan": lambda path, limit: plan(Path(path), float(limit)),
        "--first": lambda path, budget: first_plan(Path(path), int(budget)),
        "--cold": lambda path, limit: cold(Path(path), float(limit)),
    }
    if len(sys.argv) > 1 and sys.argv[1] in jobs:
        print(json.dumps(jobs[sys.argv[1]](*sys.argv[2:])), flush=True)
        return 0
    return parent()


def parent() -> int:
    """The table of all models, resumed where an earlier run stopped."""
    names = [*CONFIGURATIONS, *LAYERED]
    parser = argparse.ArgumentParser(description="Planning at scale.")
    parser.add_argument("--models", default=",".join(names), help="comma-separated")
    parser.add_argument("--outputs", choices=tuple(FILES), default="loss")
    parser.add_argument("--time-limit", type=float, default=8.0)
    parser.add_argument("--again", action="store_true", help="also what has a result")
    parser.add_argument("--graphs", type=Path, help="keep captured graphs here, and use them again")
    parser.add_argument("--no-cold", action="store_true", help="leave out the cold planning")
    parser.add_argument("--output", type=Path, help="file of the results")
    args = parser.parse_args()
    file = args.output or FILES[args.outputs]
    old = json.loads(file.read_text()) if file.exists() else {"models": []}
    results = {r["model"]: r for r in old["models"]}
    with tempfile.TemporaryDirectory() as folder:
        graphs = args.graphs or Path(folder)
        graphs.mkdir(exist_ok=True)
        for name in args.models.split(","):
            if args.again or "rows" not in results.get(name, {}):
                results[name] = run_model(name, args.time_limit, graphs, args.outputs)
                print(lines([results[name]]) if "rows" in results[name] else results[name])
                data = {**header(args.time_limit, args.outputs), "cold": old.get("cold")}
                write(file, data, list(results.values()))
        largest = max(graphs.glob("*.json"), key=os.path.getsize, default=None)
        if largest is not None and not args.no_cold:
            old["cold"] = {"model": largest.stem, **cold_planning(largest, args.time_limit)}
    data = {**header(args.time_limit, args.outputs), "cold": old.get("cold")}
    write(file, data, list(results.values()))
    print(f"\n{lines(list(results.values()))}\n")
    print(json.dumps(json.loads(file.read_text()).get("summary"), indent=1))
    return 0


def header(time_limit: float, outputs: str) -> dict[str, Any]:
    """Where and how this was measured."""
    cores = os.cpu_count()
    return {
        "command": f"python benchmarks/scale.py --outputs {outputs} --time-limit {time_limit:g}",
        "date": str(date.today()),
        "device_of_costs": DEVICE,
        "outputs": outputs,
        "time_limit": time_limit,
        "machine": f"{cores} cores, load average {os.getloadavg()[0]:.1f} at the end",
        "note": "Times are by the wall clock; a load above the number of cores means other work.",
    }


def write(path: Path, head: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """Write everything so far."""
    good = [r for r in results if "rows" in r]
    found = (
        {"summary": summary(results)} if any("first" in x for r in good for x in r["rows"]) else {}
    )
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**head, **found, "models": results}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
