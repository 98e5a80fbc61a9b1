"""Random models by random schedules: the planned step is eager's, to the bit and to the byte.

python benchmarks/fuzz.py [--models 500] [--seed 0] [--results FILE]

Each number makes one model of blocks that people write (branches on Python numbers, several
outputs, dropout, norms, writes in place, views, shared weights, buffers, autocast regions,
convolutions, attention, embeddings), its inputs, and a schedule: everything kept, everything made
again, greedy at a random budget, or ops repeated at random. Loss, gradients, buffers, inputs and
the random state after two steps must be eager's bit for bit, the measured peak the predicted one.
One line is printed for each failure, with its number: `--only NUMBER` runs it alone. Numbers that
the file of results knows are not run again. Counts go into benchmarks/results/fuzz.json.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import random
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from fuzz_models import make
from torch import nn
from torch.utils._pytree import tree_leaves

import pebble
from pebble.errors import PebbleError
from pebble.graph import Graph
from pebble.measure.step import trace_step
from pebble.problem import Problem
from pebble.runtime import build
from pebble.runtime.validation import ValidationOptions, validate
from pebble.schedule import Schedule
from pebble.solver import solve

HERE = f"{Path(__file__).parent}/"
RESULTS = Path(HERE) / "results" / "fuzz.json"
FAULTS = ("wrong", "rounded", "crash")


# -- schedules -------------------------------------------------------------------------------------


def make_schedule(graph: Graph, rng: random.Random) -> tuple[str, Schedule]:
    """A random kind of schedule of a graph."""
    kind = rng.choice(("keep_all", "recompute_all", "greedy", "greedy", "random", "random"))
    if kind == "random":
        return kind, _random_repeats(graph, rng)
    budget = 10**12
    if kind == "greedy":
        peak = pebble.simulate(graph, Schedule.keep_all(graph)).peak
        budget = int(peak * rng.uniform(0.5, 1.0))
    found = solve(Problem(graph, budget), kind, time_limit=2).schedule
    return kind, found or Schedule.keep_all(graph)


def _random_repeats(graph: Graph, rng: random.Random) -> Schedule:
    rate, order = rng.uniform(0.1, 0.6), []
    for i, op in enumerate(graph.ops):
        for v in op.inputs:
            producer = int(graph.arrays.producer[v])
            if producer >= 0 and graph.ops[producer].recomputable and rng.random() < rate:
                order.append(producer)
        order.append(i)
    return Schedule(tuple(order))


# -- runs ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of one model: "equal", "refused", or one of `FAULTS`."""

    number: int
    result: str
    schedule: str
    blocks: str
    bytes_off: int = 0
    detail: str = ""


def outcome(number: int) -> Outcome:
    """Make, plan and run the model of a number."""
    model, inputs, rng = make(number)
    blocks, kind = f"{'+'.join(model.names)} -> {model.ends}", "none"
    autocast = rng.random() < 0.15
    try:
        with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            warnings.simplefilter("ignore")
            step = trace_step(model, copy.deepcopy(inputs), optimizer=None, costs="flops")
            kind, schedule = make_schedule(step.graph, rng)
            problem, options = Problem(step.graph, 10**12), ValidationOptions(repeats=1)
            report = validate(model, step.captured, problem, schedule, step.inputs, options)
            planned = build(copy.deepcopy(model), step.captured, schedule)
        off = report.measured_peak_bytes - report.predicted_peak_bytes
        wrong = report.agreement.wrong
        detail = str(wrong or next(iter(report.agreement.differences), ""))
        result = "wrong" if wrong else "rounded" if detail else "equal"
        detail = detail or _after_two_steps(planned, model, inputs, autocast)
        result = "wrong" if detail and result == "equal" else result
        return Outcome(number, result, kind, blocks, off, detail)
    except PebbleError as error:
        text = f"{type(error).__name__}: {error}".replace(HERE, "")
        return Outcome(number, "refused", kind, blocks, 0, text)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {str(error)[:300]} ({where.filename}:{where.lineno})"
        return Outcome(number, "crash", kind, blocks, 0, text.replace(HERE, ""))


def _after_two_steps(planned: nn.Module, model: nn.Module, inputs: Any, autocast: bool) -> str:
    """The first thing that a loop of two steps leaves otherwise than eager; "" if there is none."""
    left = []
    for module in (planned, copy.deepcopy(model)):
        torch.manual_seed(5)
        x, ids = copy.deepcopy(inputs)
        for _ in range(2):
            module.zero_grad()
            x.grad = None
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = _loss(module(x, ids))
            loss.backward()
        named = {f"gradient of {n}": p.grad for n, p in module.named_parameters()}
        named |= {f"buffer {n}": b for n, b in module.named_buffers()}
        left.append({"loss": loss.detach(), "x": x.detach(), "gradient of x": x.grad} | named)
    for name, b in left[1].items():
        a = left[0][name]
        if (a is None) is not (b is None) or (b is not None and not torch.equal(a, b)):
            return f"after two steps: {name}"
    return ""


def _loss(output: Any) -> torch.Tensor:
    """Of the model's own, or of every output that needs a gradient."""
    if isinstance(output, dict) and "loss" in output:
        return output["loss"]
    needing = [t for t in tree_leaves(output) if torch.is_tensor(t) and t.requires_grad]
    return sum((t if t.dim() == 0 else t.float().sin().sum()) for t in needing)


def outcomes(numbers: range | list[int]) -> Iterator[Outcome]:
    """One by one; the same for the same numbers."""
    torch.set_num_threads(1)
    for i, number in enumerate(numbers):
        yield outcome(number)
        if i == 0:
            gc.freeze()  # what torch has loaded by now stays, and is not looked through again
        if number % 50 == 49:
            torch._dynamo.reset()


def main() -> int:
    """Run, print and write the counts; 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="the first number")
    parser.add_argument("--only", type=int, nargs="*", help="these numbers, and write nothing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    numbers = args.only or range(args.seed, args.seed + args.models)
    known: dict[str, Any] = {}
    if args.results.exists() and not args.only:
        known = json.loads(args.results.read_text())["outcomes"]
    began = time.perf_counter()
    for each in outcomes([n for n in numbers if str(n) not in known]):
        known[str(each.number)] = asdict(each)
        if each.result in FAULTS or each.bytes_off or args.only:
            print(json.dumps(asdict(each)), flush=True)
        if not args.only and (each.number % 5 == 4 or each.number == numbers[-1]):
            _write(args.results, known, began)
    counts = Counter(o["result"] for o in known.values())
    print(dict(counts), "bytes off:", sum(bool(o["bytes_off"]) for o in known.values()))
    return int(any(counts[fault] for fault in FAULTS))


def _write(path: Path, known: dict[str, Any], began: float) -> None:
    data = {
        "command": "python benchmarks/fuzz.py",
        "date": str(date.today()),
        "pebble": pebble.__version__,
        "torch": torch.__version__,
        "counts": dict(sorted(Counter(o["result"] for o in known.values()).items())),
        "bytes_off": sum(bool(o["bytes_off"]) for o in known.values()),
        "refusals": sorted({o["detail"] for o in known.values() if o["result"] == "refused"}),
        "seconds": round(time.perf_counter() - began, 1),
        "outcomes": known,
    }
    path.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
