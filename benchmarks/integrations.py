"""Loops that people have, within a budget: the same numbers, the bytes, the speed.

    python benchmarks/integrations.py [NAME ...] [--again]

Each row trains one small model three times from one state and one seed: as it is, with the
framework's own checkpointing, and within the peak of the latter (or, where no plan fits that,
within the least budget that is known to). A step's bytes are measured in the first epoch, planning
included, and by the allocator's record in the second, all that the loop holds counted; its seconds
in the third. Rows that are in the results already are left out.
Exit status 1 if numbers differ, a step has no plan, or one is above its budget.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from integration_loops import LINES, LOOPS, MODELS, Loop, quietly

import pebble
from pebble.errors import InfeasibleBudget

RESULTS = Path(__file__).parent / "results" / "integrations.json"
OPTIONS: dict[str, Any] = {"chunked_loss": False, "display": False}
TRIES = 4  # a later form of inputs, or the accumulation, may need more than the first
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Trainer": ("trainer", "gpt2", {}),
    "Trainer, bf16": ("trainer", "gpt2", {"bf16": True}),
    "Trainer, accumulation 2": ("trainer", "gpt2", {"gradient_accumulation_steps": 2}),
    "Trainer, label smoothing": ("trainer", "gpt2", {"label_smoothing_factor": 0.1}),
    "TRL SFT": ("trl_sft", "gpt2", {}),
    "TRL SFT, packing": ("trl_sft", "llama", {"packing": True}),
    "TRL SFT, LoRA": ("trl_sft", "llama", {"lora": True}),
    "TRL SFT, packing and LoRA": ("trl_sft", "llama", {"packing": True, "lora": True}),
    "TRL DPO": ("trl_dpo", "gpt2", {}),
    "TRL DPO, LoRA": ("trl_dpo", "llama", {"lora": True}),
    "Lightning": ("lightning", "gpt2", {}),
    "Lightning, bf16-mixed": ("lightning", "gpt2", {"precision": "bf16-mixed"}),
    "Lightning, accumulation 2": ("lightning", "gpt2", {"accumulate_grad_batches": 2}),
    "Accelerate": ("accelerate", "gpt2", {}),
    "Accelerate, bf16": ("accelerate", "gpt2", {"precision": "bf16"}),
    "plain": ("plain", "gpt2", {}),
    "plain, bf16": ("plain", "gpt2", {"precision": "bf16"}),
}
"""Row -> loop, model, options of the loop."""


@dataclass(frozen=True)
class Row:
    """What one integration did with one model.

    Attributes
    ----------
    lines : int
        That a user adds, imports left out.
    budget_bytes : int or None
        None: no plan fits.
    at_checkpointing : bool
        Whether the budget is the peak of the framework's own checkpointing.
    peaks : dict of str to int
        The most that a step held, by way of training.
    first_peaks : dict of str to int
        The same in the first epoch, planning included; without what an op holds while it runs.
    speeds : dict of str to float
        Full batches a second, by way of training.
    refused : str
        Why there is no plan at the peak of checkpointing.
    """

    name: str
    model: str
    lines: int
    budget_bytes: int | None
    at_checkpointing: bool
    peaks: dict[str, int]
    first_peaks: dict[str, int]
    speeds: dict[str, float]
    equal: bool
    planned_calls: int
    unplanned_calls: int
    evaluation_calls: int
    planning_seconds: float
    refused: str = ""

    @property
    def good(self) -> bool:
        """Whether it kept what is promised."""
        if self.budget_bytes is None:
            return False
        most = max(self.peaks["planned"], self.first_peaks["planned"])
        kept = most <= self.budget_bytes
        return kept and self.equal and self.unplanned_calls == 0 and self.planned_calls > 0


@dataclass(frozen=True)
class Trained:
    """A loop that has trained."""

    loop: Loop
    state: dict[str, torch.Tensor]
    first_peak: int
    peak: int
    speed: float


def train(name: str, way: str, budget: int = 0) -> Trained:
    """A loop as it is ("plain"), "checkpointed", or "planned" within so many bytes."""
    kind, model, options = CASES[name]
    torch.manual_seed(0)
    loop = LOOPS[kind](MODELS[model](), **options)
    if way == "checkpointed":
        loop.checkpoint()
    elif way == "planned":
        loop.names |= {"budget": budget, "options": OPTIONS}
        exec(LINES[kind], loop.names)  # the lines that are counted
    torch.manual_seed(1)
    loop.train()
    state = {key: t.clone() for key, t in loop.model.state_dict().items()}
    watch = loop.watch
    return Trained(
        loop, state, max(watch.first), max(watch.peaks), 1 / statistics.median(loop.watch.seconds)
    )


def run(name: str) -> Row:
    """All three, side by side."""
    kind, model, _ = CASES[name]
    plain, checkpointed = train(name, "plain"), train(name, "checkpointed")
    refused, planned, budget = "", None, checkpointed.peak
    for _ in range(TRIES):
        try:
            planned = train(name, "planned", budget)
            break
        except InfeasibleBudget as error:
            refused = refused or str(error)
            assert error.least_bytes is not None
            budget += error.least_bytes - error.budget_bytes
    done = [t for t in (plain, checkpointed, planned) if t is not None]
    ways = ("plain", "checkpointed", "planned")
    status = None
    if planned is not None:
        status = (planned.loop.status or (lambda: pebble.status(planned.loop.model)))()
    return Row(
        name=name,
        model=model,
        lines=len(LINES[kind].splitlines()),
        budget_bytes=budget if planned is not None else None,
        at_checkpointing=not refused,
        peaks={way: t.peak for way, t in zip(ways, done)},
        first_peaks={way: t.first_peak for way, t in zip(ways, done)},
        speeds={way: round(t.speed, 3) for way, t in zip(ways, done)},
        equal=planned is not None and same(plain.state, planned.state),
        planned_calls=getattr(status, "planned_calls", 0),
        unplanned_calls=getattr(status, "unplanned_calls", 0),
        evaluation_calls=getattr(status, "evaluation_calls", 0),
        planning_seconds=round(getattr(status, "planning_seconds", 0.0), 1),
        refused=refused,
    )


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def main() -> int:
    """Run what is missing, and write after each row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", help=f"of {'; '.join(CASES)}")
    parser.add_argument("--again", action="store_true", help="rows that are there, too")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    if RESULTS.exists():
        rows = {row["name"]: row for row in json.loads(RESULTS.read_text())["rows"]}
    bad = 0
    for name in asked.names or CASES:
        if name in rows and not asked.again:
            continue
        with quietly():
            row = run(name)
        bad += not row.good
        print(f"{'ok' if row.good else 'WRONG':6}{row}", flush=True)
        rows[name] = asdict(row) | {"good": row.good, "load": round(os.getloadavg()[0], 1)}
        data = {
            "command": "python benchmarks/integrations.py",
            "date": str(date.today()),
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread",
            "rows": [rows[n] for n in CASES if n in rows],
        }
        RESULTS.write_text(json.dumps(data, indent=1) + "\n")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
