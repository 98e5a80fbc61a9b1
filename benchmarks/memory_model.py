"""Predicted and measured memory of whole training steps: models x optimizers x tuning x batches.

    python benchmarks/memory_model.py [--models gpt2_dropout,vit] [--optimizers adamw]

Every row trains three steps on the CPU under the allocator's trace: micro-batches, the optimizer's
step, gradients set to None. The first step has no optimizer state before its end; the later ones
do. The outputs of a micro-batch are held until the next one begins, those of the last until the
optimizer has stepped. A row passes if the prediction is within 1 % of every measured peak.
Exit status 1 if one is not.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import sys
import time
import warnings
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from models import ZOO
from torch import nn

from pebble.finetune.estimates import Estimate, estimate
from pebble.finetune.lora import add_adapters
from pebble.formatting import gigabytes, table
from pebble.measure.allocator import trace_memory
from pebble.runtime import build
from pebble.runtime.validation import RUNNABLE_OPTIMIZERS
from pebble.schedule import Schedule
from pebble.tracing import Captured, capture
from pebble.tracing.accumulation import accumulated
from pebble.tracing.torch_private.storages import storage_bytes

MODELS = ("gpt2_dropout", "bert_dropout", "llama_tied", "vit", "t5", "mixtral")
TARGETS = ("q_proj", "v_proj", "c_attn", "query", "value", "q", "v")
OPTIMIZERS = ("sgd", "momentum", "adamw", "adafactor")
ACCUMULATE = (1, 4)
STEPS = 3
ALLOWED = 0.01
RESULTS = Path(__file__).parent / "results" / "memory_model.json"


def measured_peaks(
    model: nn.Module, captured: Captured, inputs: dict[str, Any], optimizer: str, batches: int
) -> list[int]:
    """Most bytes of each of some training steps, everything counted."""
    if batches > 1:
        captured = accumulated(captured)
    module = build(model, captured, Schedule.keep_all(captured.graph))
    stepper = RUNNABLE_OPTIMIZERS[optimizer]([p for p in model.parameters() if p.requires_grad])

    def step() -> None:
        output: Any = None
        for _ in range(batches):
            del output
            output = module(**inputs)
            output.loss.backward()
        stepper.step()
        stepper.zero_grad(set_to_none=True)

    constants = [
        getattr(captured.joint, str(slot.node.target))
        for slot in captured.slots
        if slot.node.op == "get_attr"
    ]
    held = storage_bytes([*model.parameters(), *model.buffers(), *inputs.values(), *constants])
    model.zero_grad(set_to_none=True)
    peaks = []
    for _ in range(STEPS):
        trace = trace_memory(step)
        peaks.append(held + trace.peak)
        held += int(trace.live[-1])
    return peaks


def predicted_peaks(expected: Estimate) -> list[int]:
    """Of the first step and of the later ones."""
    first = max(m.total for m in expected.moments if m.first)
    later = max(m.total for m in expected.moments if not m.first)
    return [first] + [later] * (STEPS - 1)


def run_model(name: str, optimizers: Iterable[str]) -> list[dict[str, Any]]:
    """All rows of one model."""
    rows = []
    for tuning in ("full", "LoRA"):
        model, inputs = ZOO[name]()
        if tuning == "LoRA":
            torch.manual_seed(0)
            add_adapters(model, 8, TARGETS)
        captured = capture(model, (), inputs)
        for optimizer in optimizers:
            for batches in ACCUMULATE:
                expected = estimate(
                    model,
                    inputs,
                    captured=captured,
                    optimizer=optimizer,
                    accumulation_steps=batches,
                )
                measured = measured_peaks(model, captured, inputs, optimizer, batches)
                predicted = predicted_peaks(expected)
                errors = [p / m - 1 for p, m in zip(predicted, measured, strict=True)]
                row = {
                    "model": name,
                    "tuning": tuning,
                    "optimizer": optimizer,
                    "accumulate": batches,
                    "predicted": predicted,
                    "measured": measured,
                    "errors": errors,
                    "fullest": expected.peak_moment.phase,
                    "ok": all(abs(e) <= ALLOWED for e in errors),
                }
                rows.append(row)
                print(line(row), flush=True)
        del model, captured
        gc.collect()
    return rows


def line(row: dict[str, Any]) -> str:
    """A row while the benchmark runs."""
    errors = "  ".join(f"{100 * e:+7.3f} %" for e in row["errors"])
    return (
        f"{row['model']:14}{row['tuning']:6}{row['optimizer']:11}x{row['accumulate']}  "
        f"{gigabytes(row['measured'][-1]):>10}  {errors}  {'ok' if row['ok'] else 'FAILED'}"
    )


def summary_table(rows: list[dict[str, Any]]) -> str:
    """Worst errors of each model and way of tuning."""
    lines = []
    for name in dict.fromkeys(row["model"] for row in rows):
        for tuning in ("full", "LoRA"):
            mine = [r for r in rows if (r["model"], r["tuning"]) == (name, tuning)]
            errors = [e for r in mine for e in r["errors"]]
            largest = max(p for r in mine for p in r["measured"])
            exact = sum(p == m for r in mine for p, m in zip(r["predicted"], r["measured"]))
            lines.append(
                [
                    name, tuning, gigabytes(largest), str(len(errors)), str(exact),
                    f"{100 * min(errors):+.3f} %", f"{100 * max(errors):+.3f} %",
                ]
            )  # fmt: skip
    header = ["model", "tuning", "largest peak", "steps", "to the byte", "least", "most"]
    return table(header, lines)


def earlier_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of other models from a run before."""
    return list(json.loads(path.read_text())["rows"]) if path.is_file() else []


def write(path: Path, rows: list[dict[str, Any]], minutes: float) -> dict[str, Any]:
    """What is known so far; returns its summary."""
    errors = [e for row in rows for e in row["errors"]]
    summary = {
        "rows": len(rows),
        "steps": len(errors),
        "failures": sum(not row["ok"] for row in rows),
        "lowest_error": min(errors),
        "highest_error": max(errors),
        "minutes": minutes,
    }
    data = {
        "command": "python benchmarks/memory_model.py",
        "date": str(date.today()),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "summary": summary,
        "rows": rows,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=1))
    return summary


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS), help="comma-separated")
    parser.add_argument("--optimizers", default=",".join(OPTIMIZERS), help="comma-separated")
    parser.add_argument("--add", action="store_true", help="to the results of other models")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    began = time.perf_counter()
    rows = earlier_rows(args.output) if args.add else []
    for name in args.models.split(","):
        rows = [row for row in rows if row["model"] != name]
        rows += run_model(name, args.optimizers.split(","))
        summary = write(args.output, rows, (time.perf_counter() - began) / 60)
    print(f"\n{summary_table(rows)}\n")
    print(
        f"{summary['rows']} rows, {summary['steps']} steps, {summary['failures']} rows off by more "
        f"than {100 * ALLOWED:.0f} %; predictions {100 * summary['lowest_error']:+.3f} % to "
        f"{100 * summary['highest_error']:+.3f} % of what was measured"
    )
    return int(bool(summary["failures"]))


if __name__ == "__main__":
    sys.exit(main())
