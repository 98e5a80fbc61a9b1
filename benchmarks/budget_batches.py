"""Batches as large as a budget allows: what they use of it, and what they pad.

    python benchmarks/budget_batches.py [--models gpt2,llama,bert] [--samples 300]

Samples of skewed, seeded lengths are put into batches by `BudgetBatchSampler`; every step is
measured (whole step, CPU allocator) and held against the budget and its prediction. Beside it:
samples sorted by length in as many batches of one size. Two ranks are compared, and an epoch that
was interrupted. Exit status 1 if a step is above the budget or its prediction, the mean step is
below 90 % of the budget, more is padded than in batches of one size, ranks differ, or the
interrupted epoch does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from any_batch import measured_step
from any_batch_models import MODELS, WORDS
from torch.utils.data import DataLoader

import pebble
from pebble.data import BudgetBatchSampler, pad_collate
from pebble.formatting import gigabytes, table
from pebble.runtime.follower import follower_of
from pebble.runtime.input_forms import InputForm

RESULTS = Path(__file__).parent / "results" / "budget_batches.json"
SHORTEST, LONGEST = 16, 192
ENOUGH = 0.9
"""Of the budget, on the mean."""


@dataclass
class Row:
    """What came out for one model."""

    model: str
    budget_bytes: int
    batches: int
    most: float
    mean: float
    under_prediction: float
    padding: int
    padding_sorted: int
    tokens: int
    traces: int
    schedules: int
    family_seconds: float
    same_on_ranks: bool
    same_again: bool

    @property
    def good(self) -> bool:
        """Whether every batch fits, and all of the above is so."""
        fits = self.most <= 1 and self.under_prediction >= 0 and self.mean >= ENOUGH
        return (
            fits and self.padding < self.padding_sorted and self.same_on_ranks and self.same_again
        )


def lengths_of(samples: int) -> list[int]:
    """Log-normal lengths."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.exp(torch.randn(samples, generator=generator) * 0.5 + 4.0)
    return drawn.long().clamp(SHORTEST, LONGEST).tolist()


def padding_sorted(lengths: list[int], batches: int) -> int:
    """Tokens padded in so many batches of one size, samples sorted by length."""
    order, size = sorted(lengths, reverse=True), -(-len(lengths) // batches)
    parts = [order[i : i + size] for i in range(0, len(order), size)]
    return sum(len(part) * part[0] for part in parts) - sum(lengths)


def run(name: str, samples: int, budget: int) -> Row:
    """An epoch of one model."""
    torch.manual_seed(0)
    module = pebble.budgeted(MODELS[name].make().train(), budget_bytes=budget, display=False)
    lengths = lengths_of(samples)
    began = time.perf_counter()
    sampler = BudgetBatchSampler(lengths, module)
    seconds = time.perf_counter() - began
    ids = [torch.randint(1, WORDS, (n,)) for n in lengths]
    data: Any = [{"input_ids": t, "labels": t.clone()} for t in ids]
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
    used, margins, padding = [], [], 0
    follower: Any = follower_of(module)
    for batch in DataLoader(data, batch_sampler=sampler, collate_fn=pad_collate):
        peak, _ = measured_step(module, optimizer, batch)
        optimizer.step()
        optimizer.zero_grad()
        predicted = follower.members.of(InputForm.of((), batch))[0].promise.peak_bytes
        used.append(peak / budget)
        margins.append((predicted - peak) / predicted)
        padding += int((batch["attention_mask"] == 0).sum())
    ranks = [
        list(BudgetBatchSampler(lengths, sampler.family, num_replicas=2, rank=r)) for r in (0, 1)
    ]
    whole, stopped = (BudgetBatchSampler(lengths, sampler.family, seed=1) for _ in range(2))
    running = iter(stopped)
    begun = [next(running) for _ in range(len(stopped) // 2)]
    again = BudgetBatchSampler(lengths, sampler.family, seed=1)
    again.load_state_dict(stopped.state_dict())
    return Row(
        name, budget, len(used), max(used), sum(used) / len(used), min(margins), padding,
        padding_sorted(lengths, len(used)), sum(lengths), follower.planner.source.traces,
        len(sampler.family.schedules), round(seconds, 1), len(ranks[0]) == len(ranks[1]),
        begun + list(again) == list(whole),
    )  # fmt: skip


def write(row: Row) -> None:
    """Put a row into the results; those of other models stay, each with its date."""
    known = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    made = {"date": str(date.today()), "torch": torch.__version__, **asdict(row)}
    kept = [old for old in known if old["model"] != row.model]
    RESULTS.write_text(json.dumps({"rows": [*kept, made]}, indent=1) + "\n")


def main() -> int:
    """Run, print, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--models", default="gpt2,llama,bert")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--budget-bytes", type=int, default=20_000_000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in asked.models.split(","):
        rows.append(run(name, asked.samples, asked.budget_bytes))
        print(rows[-1], flush=True)
        write(rows[-1])
    header = ["model", "batches", "budget", "most", "mean", "padded", "sorted", "traces"]
    cells = [
        [
            r.model, str(r.batches), gigabytes(r.budget_bytes), f"{r.most:.1%}", f"{r.mean:.1%}",
            str(r.padding), str(r.padding_sorted), str(r.traces),
        ]
        for r in rows
    ]  # fmt: skip
    print(table(header, cells))
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
