"""A family of plans for a model of 7 billion parameters, on tensors without memory.

    python benchmarks/large_family.py [--layers 32] [--budget-gb 40] [--seconds 20]

Llama-7B with LoRA, batches up to 16 and lengths from 128 to 4096. What it takes to make the family
(seconds of the clock and of the processor, resident memory), and what it says at some lengths. Exit
status 1 if it takes more than 120 seconds of the clock (of an idle machine) or 3 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch

import pebble
from pebble.finetune import named_models

RESULTS = Path(__file__).parent / "results" / "large_family.json"
NAME = "llama-7b"
LENGTHS, MOST_ROWS = (128, 4096), 16
MOST_SECONDS, MOST_BYTES = 120.0, 3_000_000_000


@dataclass
class Row:
    """What came out.

    Attributes
    ----------
    load : float
        Of the machine while the family was made: above 1 the clock says little.
    largest : dict of int to int
        The largest batch of some lengths.
    """

    layers: int
    budget_gb: float
    seconds: float
    processor_seconds: float
    load: float
    resident_bytes: int
    schedules: int
    ops: int
    largest: dict[int, int]

    @property
    def wrong(self) -> list[str]:
        """What does not hold."""
        held = {
            "takes too long": self.seconds <= MOST_SECONDS,
            "takes too much memory": self.resident_bytes <= MOST_BYTES,
            "says nothing of the longest": self.largest[LENGTHS[1]] > 0,
        }
        return [what for what, holds in held.items() if not holds]


def run(layers: int, budget_gb: float, seconds: float) -> Row:
    """Make the family of a model with so many layers."""
    whole = {**named_models.SHAPES[NAME], "num_hidden_layers": layers}
    named_models.SHAPES = {**named_models.SHAPES, NAME: whole}
    model, inputs = named_models.build_shape(NAME, batch_size=3, seq_len=LENGTHS[0], lora_rank=8)
    began, worked = time.perf_counter(), time.process_time()
    family = pebble.family(
        model, inputs, lengths=LENGTHS, max_batch=MOST_ROWS, budget_gb=budget_gb,
        time_limit=seconds, display=False,
    )  # fmt: skip
    taken, processor = time.perf_counter() - began, time.process_time() - worked
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    known = family.table_lengths(4)
    return Row(
        layers, budget_gb, round(taken, 1), round(processor, 1), round(os.getloadavg()[0], 1),
        resident, len(family.schedules), len(family.step.graph.ops),
        {length: family.max_batch(length) for length in known},
    )  # fmt: skip


def main() -> int:
    """Run, print, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--budget-gb", type=float, default=40)
    parser.add_argument("--seconds", type=float, default=20, help="of search for schedules")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    row = run(asked.layers, asked.budget_gb, asked.seconds)
    print(row, row.wrong)
    known = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    kept = [old for old in known if old["layers"] != row.layers]
    made = {"date": str(date.today()), "torch": torch.__version__, **asdict(row)}
    RESULTS.write_text(json.dumps({"rows": [*kept, made]}, indent=1) + "\n")
    return 1 if row.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
