"""Ten models that are no single graph, planned module by module at 60 % of their activations.

    python benchmarks/without_graph.py [NAME ...] [--share 0.6] [--json FILE]

Each is planned with `pebble.optimize` on the way it is, trains two steps beside eager from the same
state and random numbers (dropout on), and is measured: gradients and everything the step writes
must be equal bit for bit, and the measured peak at most the budget.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from graphless_models import CASES, Case
from torch import nn

import pebble
from pebble.budget import Resident
from pebble.plan.module_plan import ModulePlan


def everything(model: nn.Module, inputs: Any, loss: Any, seed: int) -> list[Any]:
    """Loss, gradients and buffers of two training steps."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    found: list[Any] = []
    steps = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        output = model(*inputs)
        value = output if loss is None else loss(output)
        steps.zero_grad()
        value.backward()
        found += [
            value.detach(),
            *(p.grad.clone() for p in model.parameters() if p.grad is not None),
        ]
        steps.step()
    return [*found, *(b.clone() for b in model.buffers()), torch.rand(1), random.random()]


def alike(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b)
    )


def run(build: Callable[[], Case], share: float) -> dict[str, Any]:
    """Plan one model, train it beside eager, measure it."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    made = build()
    inputs = made.inputs if isinstance(made.inputs, tuple) else (made.inputs,)
    twin = copy.deepcopy(made.model)
    options: dict[str, Any] = {"loss": made.loss, "optimizer": None, "level": made.level}
    whole = pebble.optimize(made.model, inputs, budget_gb=100, **options)
    assert isinstance(whole, ModulePlan), "this model has a graph"
    room: Resident = whole.resident
    budget = int(room.total + share * (whole.baseline_peak_bytes - room.total))
    began = time.perf_counter()
    plan = pebble.optimize(made.model, inputs, budget_bytes=budget, **options)
    seconds = time.perf_counter() - began
    report = plan.validate(repeats=1)
    planned = plan.apply(made.model)
    equal = alike(everything(planned, inputs, made.loss, 7), everything(twin, inputs, made.loss, 7))
    return {
        "equal": equal and report.ok_bitwise,
        "budget_bytes": budget,
        "measured_bytes": report.measured_peak_bytes,
        "unplanned_bytes": whole.baseline_peak_bytes,
        "within": report.within_budget,
        "extra_compute": plan.overhead,
        "error_share": plan.error_share,
        "plan_seconds": seconds,
        "again": plan.figures.told,
        "planned_calls": pebble.status(planned).planned_calls,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CASES)}")
    parser.add_argument("--share", type=float, default=0.6, help="of the activations")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    rows, wrong = {}, 0
    for name in args.names or CASES:
        try:
            row = rows[name] = run(CASES[name], args.share)
        except pebble.PebbleError as error:
            print(f"{name:32} refused: {error}", flush=True)
            wrong += 1
            continue
        good = row["equal"] and row["within"] and row["planned_calls"] == 2
        wrong += not good
        print(
            f"{name:32} {'ok' if good else 'WRONG':5} un-planned {row['unplanned_bytes']:>11,} "
            f"budget {row['budget_bytes']:>11,} measured {row['measured_bytes']:>11,} "
            f"equal {row['equal']!s:5} extra {row['extra_compute']:6.1%} "
            f"within {row['error_share']:.1%} {row['plan_seconds']:.1f} s  {row['again'][:60]}",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
