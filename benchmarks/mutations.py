"""Damaged files: what reading them does, counted.

python benchmarks/mutations.py [--files 2000] [--seed 0]

Plan, graph and netlist files are damaged at random, a third of each: bytes flipped, cut out and
doubled; entries deleted, copied, and given values of other types and sizes. Each file is read as a
user would, in a process that has `MEMORY_MB` more than it began with. Counted are exceptions
outside the PebbleError family, reads of more than `SECONDS`, peaks above the memory, and files
that are accepted although they claim another result than their replay. What was run goes into
benchmarks/results/mutations.json.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pebble
from pebble.budget import Footprint, Resident
from pebble.errors import PebbleError
from pebble.games import make_graph
from pebble.graph import Graph, Op, Phase, Value
from pebble.graphfile import load_graph
from pebble.plan import Plan, load_plan
from pebble.record import StepRecord
from pebble.referee import simulate
from pebble.solver import solve

RESULTS = Path(__file__).parent / "results" / "mutations.json"
SECONDS, MEMORY_MB = 2.0, 500.0

HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**62, 2**63, 10**30, 0.5, -0.0, float("nan"),
    float("inf"), float("-inf"), 1e308, "", "0", "optimal", "\0", "\ud800", "a" * 5000, [], {},
    [0] * 3000, [[[[]]]], {"": None}, [None], [-1], [10**9], {"tensor": [10**9]},
)  # fmt: skip

NETLIST = """# a full adder and what it drives
INPUT(a)
INPUT(b)
INPUT(c)
OUTPUT(sum)
OUTPUT(carry)
x = XOR(a, b)
sum = XOR(x, c)
y = NAND(a, b)
z = NAND(x, c)
carry = NAND(y, z)
n = NOT(carry)
w = LUT 0x8 (n, sum)
"""


# -- sound files -----------------------------------------------------------------------------------


def training_graph(length: int = 5) -> Graph:
    """A chain of forward ops, and backward ops that read what they made."""
    ops, values = [], [Value("x", 64, external=True, spec="f32[4, 4]")]
    for i in range(length):
        values.append(Value(f"a{i}", 100 + i, spec="f32[5, 5]"))
        ops.append(Op(f"f{i}", 10 + i, (i,), (i + 1,), workspace=i, kind="aten.mm.default"))
    gradient = length
    for i in reversed(range(length)):
        values.append(Value(f"g{i}", 50, pinned=i == 0))
        reads = (gradient, i + 1) if gradient != i + 1 else (gradient,)
        ops.append(Op(f"b{i}", 20, reads, (len(values) - 1,), phase=Phase.BACKWARD))
        gradient = len(values) - 1
    return Graph(ops, values, name="chain")


def sound_plan() -> Plan:
    """A plan that recomputes, as `pebble.optimize` makes them."""
    graph = training_graph()
    inputs = {"args": {"list": [{"tensor": [4, 4], "dtype": "float32", "stride": [4, 1], "requires_grad": False}, {"same_as": 0}]}, "kwargs": {"dict": {"scale": {"value": 0.5}}}}  # fmt: skip  # noqa: E501
    resident = Resident({"parameters": 200, "inputs": 64}, 300)
    footprint = Footprint(graph, resident)
    budget = footprint.unplanned_peak - 60
    result = solve(footprint.problem(budget), "greedy", time_limit=1)
    assert result.schedule is not None
    return Plan(
        budget_bytes=budget,
        problem=result.problem,
        schedule=result.schedule,
        resident=resident,
        status=result.status,
        lower_bound=result.lower_bound,
        scope=result.scope,
        solver=result.solver,
        seed=0,
        runtime=result.runtime,
        options={},
        record=StepRecord(model="Chain", inputs=inputs, optimizer="adamw"),
    )


def text_of(graph: Graph) -> str:
    """A graph in the plain text format; what is external is left out."""
    arrays = graph.arrays
    edges = [
        (int(arrays.producer[v]), i)
        for i in range(len(graph.ops))
        for v in arrays.in_val[arrays.in_ptr[i] : arrays.in_ptr[i + 1]]
    ]
    rows = [f"{len(graph.ops)} {len(edges)}"]
    rows += [f"{graph.values[op.outputs[0]].size} {op.cost}" for op in graph.ops]
    return "\n".join([*rows, *(f"{u} {v}" for u, v in edges)]) + "\n"


def sound_files() -> dict[str, list[tuple[str, str]]]:
    """Names and texts of files by kind."""
    graph = training_graph()
    numbered = {"n": 5, "edges": [[0, 1], [1, 2], [2, 3], [0, 4]], "targets": [3, 4]}
    return {
        "plan": [("plan.json", json.dumps(sound_plan().to_json()))],
        "graph": [
            ("graph.json", json.dumps(graph.to_json())),
            ("graph.txt", text_of(graph)),
            ("numbered.json", json.dumps(numbered)),
        ],
        "netlist": [("adder.bench", NETLIST)],
    }


# -- damage ----------------------------------------------------------------------------------------


def damaged(text: str, rng: random.Random) -> bytes:
    """A text with one to three of its parts damaged; some of a plan get their fingerprint anew."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        entry = rng.random() < 0.8 and text.startswith("{")
        text = _damaged_entry(text, rng) if entry else _damaged_text(text, rng)
    text = _signed_again(text) if rng.random() < 0.3 else text
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    if rng.random() < 0.1 and data:
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def _damaged_entry(text: str, rng: random.Random) -> str:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return _damaged_text(text, rng)
    places = list(_places(data))
    if not places:
        return text
    holder, key = rng.choice(places)
    kind = rng.randrange(5)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        other, at = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[at]))
    elif kind == 2 and isinstance(holder[key], int):
        holder[key] += rng.choice((-1, 1, 1000, 10**12, -(10**12)))
    elif kind == 3 and isinstance(holder[key], list):
        holder[key] = holder[key] * rng.choice((2, 50))
    else:
        holder[key] = rng.choice(HOSTILE)
    return json.dumps(data)


def _signed_again(text: str) -> str:
    """The text with the fingerprint that its graph has, as whoever changes it would write it."""
    try:
        data = json.loads(text)
        data["fingerprint"] = Graph.from_json(data["graph"]).fingerprint
    except Exception:
        return text
    return json.dumps(data)


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every entry inside, as its holder and its key."""
    ahead = [data]
    while ahead:
        item = ahead.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item))
        yield from ((item, key) for key in keys)
        ahead += [item[key] for key in keys if isinstance(item[key], (dict, list))]


def _damaged_text(text: str, rng: random.Random) -> str:
    a, b = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    b = min(b, a + rng.choice((1, 10, 200)))
    new: Callable[[], str] = rng.choice(
        (
            lambda: "",
            lambda: text[a:b] * rng.choice((2, 20)),
            lambda: rng.choice(("[" * 5000, "{" * 999, "9" * 5000, "1e999", "-", "\0", "(", "=")),
            lambda: str(rng.choice(HOSTILE))[:100],
            lambda: "".join(rng.sample(text[a:b], b - a)),
        )
    )
    return text[:a] + new() + text[b:]


# -- reading ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of one file: "refused", "accepted", or the fault that reading it showed."""

    kind: str
    name: str
    result: str
    seconds: float
    peak_mb: float
    detail: str = ""


def read(kind: str, path: Path) -> str:
    """Read a file as a user would; "accepted", or what is wrong with what was accepted."""
    if kind == "plan":
        plan = load_plan(path)
        return _other_result(plan, json.loads(path.read_text(encoding="utf-8-sig")))
    if kind == "netlist" or path.name == "numbered.json":
        _ = make_graph(str(path)).arrays
    else:
        graph = load_graph(path)
        _ = simulate(graph, range(len(graph.ops)))
    return "accepted"


def _other_result(plan: Plan, data: dict[str, Any]) -> str:
    trace = simulate(plan.problem, plan.schedule)
    peak = plan.resident.whole_step_peak(trace.peak)
    proved = trace.cost == plan.problem.graph.total_cost
    right = (
        (plan.peak_bytes, plan.cost) == (peak, trace.cost)
        and (data["predicted_peak_bytes"], data["predicted_cost"]) == (peak, trace.cost)
        and peak <= plan.budget_bytes == data["budget_bytes"]
        and plan.lower_bound <= plan.problem.graph.total_cost
        and (str(plan.status) == "optimal") == proved
    )
    shown = (str(plan), plan.to_json(), plan.memory, plan.saved)
    return "accepted" if right and all(shown[:3]) else "another result"


def outcome(kind: str, path: Path) -> Outcome:
    """Read one file and judge what happened."""
    tracemalloc.start()
    began, detail = time.perf_counter(), ""
    try:
        result = read(kind, path)
    except PebbleError as error:
        result, detail = "refused", str(error)
    except Exception as error:
        result, detail = "outside the family", f"{type(error).__name__}: {error}"
    seconds = time.perf_counter() - began
    peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    if seconds > SECONDS:
        result = "hang"
    if peak_mb > MEMORY_MB:
        result = "memory"
    return Outcome(kind, path.name, result, seconds, peak_mb, detail)


def outcomes(files: int, seed: int, folder: Path) -> Iterator[Outcome]:
    """Damage and read so many files; the same for the same seed.

    Every sound file is read before, so that no damaged one is charged with an import.
    """
    sound = sound_files()
    for kind, files_of_kind in sound.items():
        for name, text in files_of_kind:
            (folder / name).write_text(text)
            assert read(kind, folder / name) == "accepted", name
    for number in range(files):
        rng = random.Random(f"{seed}.{number}")
        kind = list(sound)[number % len(sound)]
        name, text = rng.choice(sound[kind])
        path = folder / name
        path.write_bytes(damaged(text, rng))
        yield outcome(kind, path)


FAULTS = ("outside the family", "hang", "memory", "another result")


def main() -> int:
    """Run, print and write the counts; 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = list(outcomes(args.files, args.seed, Path(folder)))
    counts = Counter(f"{o.kind}: {o.result}" for o in found)
    for each in found:
        if each.result in FAULTS:
            print(f"{each.name}: {each.result} ({each.seconds:.2f} s) {each.detail[:200]}")
    data = {
        "command": f"python benchmarks/mutations.py --files {args.files} --seed {args.seed}",
        "date": str(date.today()),
        "pebble": pebble.__version__,
        "files": args.files,
        "counts": dict(sorted(counts.items())),
        "faults": {fault: sum(o.result == fault for o in found) for fault in FAULTS},
        "slowest_seconds": round(max(o.seconds for o in found), 3),
        "largest_mb": round(max(o.peak_mb for o in found), 1),
        "longest_sentence": max(len(o.detail) for o in found),
    }
    RESULTS.write_text(json.dumps(data, indent=1) + "\n")
    print(json.dumps(data, indent=1))
    return int(any(data["faults"].values()))


if __name__ == "__main__":
    raise SystemExit(main())
