"""Whether two checkouts make the same graphs and the same plans, and import as fast.

    python benchmarks/same_plans.py OLD NEW [--graphs DIR] [--only resnet,RL1]

For changes that must change nothing: run it on the commit before and on the one after. Each
checkout runs in a process of its own, which maps `pebble` and `pebble.solvers` to its folders;
nothing is installed. Both are given the models and the random graphs that stand beside this file,
the same seeds, and a clock that stands still: no time limit cuts a search, so each one ends by the
work it has done and repeats itself. Compared are

* the captured graphs of five models, with their costs, workspaces and what a step keeps besides,
* what every solver that repeats itself plans for them at two budgets (an order within the budget
  or not, its peak and cost, and the bound),
* the same for published graphs: DIR holds files in the text format of `pebble.graphfile` that are
  not part of this project; without it, for four random graphs,
* exact search and integer programs, on graphs small enough for them to end,
* the time of `import pebble`: the median of ten, the two checkouts by turns.

Prints a row for each graph and a line for whatever differs; exits 1 if anything does. Takes two to
four minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial, wraps
from pathlib import Path
from typing import Any

MODELS = ("bert_dropout", "resnet", "unet", "lstm_cell", "vit")
MODEL_BUDGETS, GRAPH_BUDGETS = (80, 60), (90, 75)
"""In per cent: of a model's whole step, and of the peak of a bare graph."""
SOLVERS: dict[str, dict[str, Any]] = {
    "keep_all": {},
    "recompute_all": {},
    "sqrt": {},
    "greedy": {},
    "chain": {},
    "priced": {},
    "anneal": {"iterations": 400_000, "threads": 1},
}
SMALL_SOLVERS: dict[str, dict[str, Any]] = {
    "minpeak": {"threads": 1},
    "ilp": {},
    "cpsat": {"order": "fixed"},
    "lns": {"rounds": 12},
    "auto": {"threads": 1},
}
"""Those that end within seconds on small graphs alone when no clock stops them."""
RACING = ("auto",)
"""Solvers whose parts race one another: among orders of one cost, any may come first."""
IMPORTS = 10
SLOWER = 1.1
"""From this ratio on, `import pebble` takes longer."""

Facts = dict[str, dict[str, str]]


def map_checkout(root: Path) -> None:
    """Let `pebble` and `pebble.solvers` come from this checkout from now on."""
    folders = {"pebble": root / "pebble", "pebble.solvers": root / "solvers"}

    class Finder:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
            folder = folders.get(name)
            if folder is None:
                return None
            return importlib.util.spec_from_file_location(
                name, folder / "__init__.py", submodule_search_locations=[str(folder)]
            )

    sys.meta_path.insert(0, Finder)  # type: ignore[arg-type]


# -- in the process of one checkout --------------------------------------------------------------


def import_seconds(root: Path) -> float:
    """Time of the first `import pebble` of this process."""
    map_checkout(root)
    began = time.perf_counter()
    import pebble

    seconds = time.perf_counter() - began
    assert Path(str(pebble.__file__)).is_relative_to(root), pebble.__file__
    return seconds


def digest(data: Any) -> str:
    """Twelve hexadecimal digits of anything that goes into JSON."""
    text = json.dumps(data, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def solved(graph: Any, budget: int, solver: str, options: dict[str, Any]) -> str:
    """What a solver makes of a graph in one line; its order also where that does not fit."""
    from pebble.errors import PebbleError
    from pebble.problem import Problem
    from pebble.solver import get_solver, solve

    function = get_solver(solver)[1]
    orders = []

    @wraps(function)
    def watched(*arguments: Any, **keywords: Any) -> Any:
        answer = function(*arguments, **keywords)
        orders.append(answer.schedule and list(answer.schedule.order))
        return answer

    try:
        result = solve(Problem(graph, budget), watched, time_limit=1e6, seed=1, **options)
    except PebbleError as error:
        return f"{type(error).__name__}: {error}"
    judged = f"{result.status}, cost {result.objective}, bound {result.lower_bound}"
    if solver in RACING:
        return judged
    return f"{judged} ({result.scope}), peak {result.closest_peak}, order {digest(orders)}"


def schedules(graph: Any, limits: dict[int, int], solvers: dict[str, Any]) -> dict[str, str]:
    """One fact for each solver: its lines for all budgets."""
    return {
        solver: "; ".join(
            f"{share} %: {solved(graph, budget, solver, options)}"
            for share, budget in limits.items()
        )
        for solver, options in solvers.items()
    }


def model_facts(name: str) -> dict[str, str]:
    """A model's captured graph, what its step keeps, and the plans for it."""
    import models

    import pebble

    model, inputs = models.ZOO[name]()
    plan_within = partial(pebble.optimize, model, inputs, costs="flops", time_limit=1e6, seed=1)
    kept = plan_within(budget_gb=1e3, solver="keep_all")
    graph, step = kept.problem.graph, kept.baseline_peak_bytes
    priced = plan_within(budget_bytes=step * MODEL_BUDGETS[0] // 100, solver="priced")
    resident = step - kept.trace.peak
    limits = {share: step * share // 100 - resident for share in MODEL_BUDGETS}
    return {
        "fingerprint": graph.fingerprint,
        "graph": digest(graph.to_json()),
        "memory": json.dumps(dict(kept.memory), default=str),
        "optimize": f"{priced.peak_bytes} bytes, {digest(list(priced.schedule.order))}",
        **schedules(graph, limits, SOLVERS),
    }


def graph_facts(make: Callable[[], Any], solvers: dict[str, Any]) -> dict[str, str]:
    """A bare graph and the plans for it."""
    from pebble.referee import simulate
    from pebble.schedule import Schedule

    graph = make()
    peak = simulate(graph, Schedule.keep_all(graph)).peak
    return {
        "fingerprint": graph.fingerprint,
        "graph": digest(graph.to_json()),
        **schedules(graph, {share: peak * share // 100 for share in GRAPH_BUDGETS}, solvers),
    }


def subjects(folder: Path | None) -> dict[str, Callable[[], dict[str, str]]]:
    """What is compared, by name."""
    import generators

    from pebble.graphfile import load_graph

    found = {name: partial(model_facts, name) for name in MODELS}
    if folder is not None:
        for path in sorted(folder.glob("*.txt")):
            found[path.stem] = partial(graph_facts, partial(load_graph, path), SOLVERS)
    else:
        for family, make in generators.FAMILIES.items():
            found[family] = partial(graph_facts, partial(make, seed=3), SOLVERS)
    small = {
        "small chain": partial(generators.chain, 14, seed=5),
        "small layers": partial(generators.layered, 4, 2, seed=5),
    }
    both = {**SOLVERS, **SMALL_SOLVERS}
    return {**found, **{name: partial(graph_facts, make, both) for name, make in small.items()}}


def facts_of_checkout(root: Path, folder: Path | None, only: str) -> Iterator[tuple[str, Any]]:
    """Name and facts of every subject, as this process finds them in one checkout."""
    map_checkout(root)
    now = time.perf_counter()
    time.perf_counter = lambda: now
    for name, facts in subjects(folder).items():
        if not only or name in only.split(","):
            yield name, facts()


# -- in the process that compares ----------------------------------------------------------------


def child(root: Path, *options: str) -> subprocess.Popen[str]:
    """A process of this file for one checkout."""
    command = [sys.executable, str(Path(__file__).resolve()), "--checkout", str(root), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def collect(root: Path, *options: str) -> Facts:
    """All facts of a checkout, with a line on standard error as each subject is done."""
    process = child(root, *options)
    assert process.stdout is not None
    facts = {}
    for line in process.stdout:
        name, found = json.loads(line)
        facts[name] = found
        print(f"{root.name}: {name}", file=sys.stderr, flush=True)
    if process.wait():
        raise SystemExit(f"{root} failed with {process.returncode}.")
    return facts


def compare(old: Facts, new: Facts) -> list[str]:
    """Print a row for each subject; the differences, a line each."""
    differences = []
    width = max(map(len, [*old, *new]))
    for name in {**old, **new}:
        before, after = old.get(name, {}), new.get(name, {})
        which = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        verdict = "DIFFERENT: " + ", ".join(which) if which else "same"
        print(f"{name:{width}}  {len(before):3} facts  {verdict}")
        for key in which:
            pair = f"  old {before.get(key)}\n  new {after.get(key)}"
            differences.append(f"{name}, {key}\n{pair}")
    return differences


def compare_imports(old: Path, new: Path) -> list[str]:
    """The time of `import pebble`, by turns, and a difference where the new one is slower."""
    seconds: dict[Path, list[float]] = {old: [], new: []}
    for _ in range(IMPORTS):
        for root in seconds:
            out, _ = child(root, "--import-only").communicate()
            seconds[root].append(float(out))
    before, after = statistics.median(seconds[old]), statistics.median(seconds[new])
    slower = after > SLOWER * before
    verdict = "SLOWER" if slower else "no longer"
    print(f"import pebble: {before * 1e3:.0f} ms, then {after * 1e3:.0f} ms  {verdict}")
    return [f"import pebble takes {after / before:.2f} times as long"] if slower else []


def main() -> int:
    """Compare, or find the facts of one checkout for the process that compares."""
    parser = argparse.ArgumentParser(description="Whether two checkouts plan alike.")
    parser.add_argument("checkouts", type=Path, nargs="*", metavar="OLD NEW")
    parser.add_argument("--graphs", type=Path, help="a folder of published graphs")
    parser.add_argument("--only", default="", help="names of graphs, separated by commas")
    parser.add_argument("--checkout", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--import-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.checkout is not None and options.import_only:
        print(import_seconds(options.checkout))
        return 0
    if options.checkout is not None:
        for fact in facts_of_checkout(options.checkout, options.graphs, options.only):
            print(json.dumps(fact), flush=True)
        return 0
    if len(options.checkouts) != 2:
        parser.error("pass two checkouts, the old one and the new one")
    old, new = (path.resolve() for path in options.checkouts)
    handed_on = ["--only", options.only]
    if options.graphs is not None:
        handed_on += ["--graphs", str(options.graphs.resolve())]
    differences = compare(collect(old, *handed_on), collect(new, *handed_on))
    differences += compare_imports(old, new)
    if differences:
        print("", *differences, sep="\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
