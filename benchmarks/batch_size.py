"""The largest batch of a budget, with and without a plan, found by planning and then run.

    python benchmarks/batch_size.py [--models resnet50,vit] [--time-limit 80]

Each batch that is named is run, and so is one sample more: the first must fit the budget, the
second must not (for the planned one: by the schedule of least peak that is known). A language
model whose loss runs in chunks is also planned with its loss in one piece and handed over alone,
beside the batch that the largest working set allows. Exit status 1 if a measurement says
otherwise, or if that batch is more than 5 % smaller. Peaks are those of the CPU allocator, of the
whole step.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from model_registry import WithLoss
from plain_models import UNet
from torch import nn

import pebble
from pebble.budget import least_known_peak
from pebble.formatting import gigabytes, table
from pebble.measure.allocator import trace_memory
from pebble.measure.step import Step, trace_step
from pebble.runtime import build
from pebble.runtime.bench import loss_of
from pebble.schedule import Schedule

RESULTS = Path(__file__).parent / "results" / "batch_size.json"
MAX_OVERHEAD = 0.35
AIM_BOUND = 0.05


class Bottleneck(nn.Module):
    """A residual block of three convolutions with BatchNorm."""

    def __init__(self, inner: int, width: int, stride: int) -> None:
        super().__init__()
        outer = 4 * width
        self.conv1, self.norm1 = nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3, self.norm3 = nn.Conv2d(width, outer, 1, bias=False), nn.BatchNorm2d(outer)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inner != outer:
            self.skip = nn.Sequential(
                nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = F.relu(self.norm2(self.conv2(y)), inplace=True)
        return F.relu(self.norm3(self.conv3(y)) + self.skip(x), inplace=True)


def resnet50_body(classes: int = 1000) -> nn.Sequential:
    """ResNet-50 (He et al. 2015): 3, 4, 6 and 3 bottlenecks, 25.6 million parameters."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    inner = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for k in range(blocks):
            layers.append(Bottleneck(inner, width, stride if k == 0 else 1))
            inner = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inner, classes))


Maker = Callable[[int], dict[str, Any]]


def gpt2() -> tuple[nn.Module, Maker]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(use_cache=False)  # GPT-2 small: 124 million parameters, 50,257 tokens
    return GPT2LMHeadModel(config), _tokens(config.vocab_size, 32)


def llama() -> tuple[nn.Module, Maker]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32000, hidden_size=256, intermediate_size=688, num_hidden_layers=8,
        num_attention_heads=8, num_key_value_heads=4, use_cache=False,
    )  # fmt: skip
    return LlamaForCausalLM(config), _tokens(config.vocab_size, 64)


def vit() -> tuple[nn.Module, Maker]:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768,
        image_size=64, patch_size=8, num_labels=100,
    )  # fmt: skip
    return ViTForImageClassification(config), lambda batch: {
        "pixel_values": torch.randn(batch, 3, 64, 64),
        "labels": torch.randint(0, 100, (batch,)),
    }


def resnet50() -> tuple[nn.Module, Maker]:
    return WithLoss(resnet50_body(), F.cross_entropy), lambda batch: {
        "x": torch.randn(batch, 3, 32, 32),
        "y": torch.randint(0, 1000, (batch,)),
    }


def unet() -> tuple[nn.Module, Maker]:
    return WithLoss(UNet(16), F.mse_loss), lambda batch: {
        "x": torch.randn(batch, 3, 64, 64),
        "y": torch.randn(batch, 3, 64, 64),
    }


def _tokens(vocabulary: int, length: int) -> Maker:
    def make(batch: int) -> dict[str, Any]:
        ids = torch.randint(0, vocabulary, (batch, length))
        return {"input_ids": ids, "labels": ids}

    return make


# Budget: what is resident, and room for about ten samples without a plan. GB, and the optimizer.
MODELS: dict[str, tuple[Callable[[], tuple[nn.Module, Maker]], float, str]] = {
    "gpt2": (gpt2, 1.5, "sgd"),
    "llama": (llama, 0.7, "adamw"),
    "vit": (vit, 0.2, "adamw"),
    "resnet50": (resnet50, 0.45, "momentum"),
    "unet": (unet, 0.12, "adamw"),
}


def measured(step: Step, schedule: Schedule) -> int:
    """Peak of the whole step when it is run once by a schedule: allocator, and what is resident."""
    planned = build(step.model, step.captured, schedule)

    def run() -> Any:
        output = planned(*step.inputs.args, **step.inputs.kwargs)
        loss_of(step.captured, output).backward()
        return output

    try:
        peak = trace_memory(run).peak
    finally:
        step.model.zero_grad(set_to_none=True)
    return max(step.resident.total + peak, step.resident.optimizer_step_peak)


def unplanned_peak(model: nn.Module, make: Maker, batch: int, optimizer: str) -> int:
    """Measured peak with everything kept."""
    step = trace_step(model, make(batch), optimizer=optimizer)
    return measured(step, Schedule.keep_all(step.graph))


def leanest_peaks(
    model: nn.Module, make: Maker, sizes: pebble.BatchSizes, optimizer: str, limit: float
) -> list[int]:
    """Measured peaks of the largest batch that is held at any extra compute, and of the next."""
    plan, schedule = sizes.plan, sizes.leanest
    assert plan is not None
    assert schedule is not None
    peaks = []
    for batch in (sizes.most, sizes.most + 1):
        step = trace_step(
            model, make(batch), optimizer=optimizer, outputs=plan.outputs, chunks=plan.chunks
        )
        schedules = [schedule]
        if batch > sizes.most:
            schedules.append(least_known_peak(step.footprint, time_limit=limit).schedule)
        peaks.append(min(measured(step, s) for s in schedules))
    return peaks


def run(name: str, limit: float) -> dict[str, Any]:
    """Search, then run what was found."""
    make_model, budget_gb, optimizer = MODELS[name]
    budget = int(budget_gb * 1e9)
    torch.manual_seed(0)
    model, make = make_model()
    model.train()
    row: dict[str, Any] = {"model": name, "budget": budget, "optimizer": optimizer}
    row["parameters"] = sum(p.numel() for p in model.parameters())
    options: dict[str, Any] = {"budget_bytes": budget, "optimizer": optimizer, "time_limit": limit}
    began = time.perf_counter()
    sizes = pebble.max_batch_size(model, make, max_overhead=MAX_OVERHEAD, **options)
    row["seconds"] = time.perf_counter() - began
    print(f"\n{name}: {row['seconds']:.0f} s\n{sizes}", flush=True)
    plan = sizes.plan
    assert plan is not None
    assert plan.step is not None
    row |= {
        "unplanned": sizes.unplanned,
        "planned": sizes.planned,
        "most": sizes.most,
        "whole_loss": sizes.whole,
        "whole_loss_most": sizes.whole_most,
        "limit": sizes.limit,
        "chunks": plan.chunks,
        "overhead": plan.overhead,
        "next_overhead": sizes.next_overhead,
        "predicted": plan.peak_bytes,
        "measured": measured(plan.step, plan.schedule),
    }
    row["most_measured"], row["most_next_measured"] = leanest_peaks(
        model, make, sizes, optimizer, limit
    )
    row["unplanned_measured"] = unplanned_peak(model, make, row["unplanned"], optimizer)
    row["unplanned_next_measured"] = unplanned_peak(model, make, row["unplanned"] + 1, optimizer)
    row["times"] = row["planned"] / max(row["unplanned"], 1)
    if plan.chunks:
        row |= loss_in_one_piece(model, make, options)
    row["ok"] = bool(
        row["unplanned_measured"] <= budget < row["unplanned_next_measured"]
        and row["measured"] == row["predicted"] <= budget
        and row["most_measured"] <= budget < row["most_next_measured"]
        and row["overhead"] <= MAX_OVERHEAD
        and row.get("one_piece_ok", True)
    )
    print(f"{name}: {'ok' if row['ok'] else 'FAILED'} {json.dumps(row)}", flush=True)
    return row


def loss_in_one_piece(model: nn.Module, make: Maker, options: dict[str, Any]) -> dict[str, Any]:
    """The largest batch with nothing in chunks, beside what the largest working set allows."""
    sizes = pebble.max_batch_size(model, make, outputs="loss", chunked_loss=False, **options)
    fits, next_ = leanest_peaks(
        model, make, sizes, options["optimizer"], options["time_limit"] / 10
    )
    row = {"most": sizes.most, "limit": sizes.limit, "measured": fits, "next_measured": next_}
    ok = fits <= options["budget_bytes"] < next_ and sizes.most >= (1 - AIM_BOUND) * sizes.limit
    return {f"one_piece_{key}": value for key, value in {**row, "ok": ok}.items()}


def text(rows: list[dict[str, Any]]) -> str:
    """The results as a table."""
    header = [
        "model", "budget", "no plan", "measured / next", "+35 % compute", "times", "extra",
        "measured", "chunks", "any compute", "measured / next", "bound", "only loss / bound",
    ]  # fmt: skip
    lines = [
        [
            row["model"],
            gigabytes(row["budget"]),
            str(row["unplanned"]),
            _pair(row["unplanned_measured"], row["unplanned_next_measured"]),
            str(row["planned"]),
            f"{row['times']:.2f}",
            f"{100 * row['overhead']:.1f} %",
            gigabytes(row["measured"]),
            str(row["chunks"] or "-"),
            str(row["most"]),
            _pair(row["most_measured"], row["most_next_measured"]),
            str(row["limit"]),
            f"{row['one_piece_most']} / {row['one_piece_limit']}" if row["chunks"] else "-",
        ]
        for row in rows
    ]
    return table(header, lines)


def _pair(fits: int, next_: int) -> str:
    return f"{gigabytes(fits)} / {gigabytes(next_)}"


def main() -> int:
    """Run the models; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--time-limit", type=float, default=80.0, help="seconds a call")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pebble").setLevel(logging.ERROR)
    known = {}
    if args.output.exists():
        known = {row["model"]: row for row in json.loads(args.output.read_text())["rows"]}
    for name in args.models.split(","):
        known[name] = run(name, args.time_limit)
        rows = [known[n] for n in MODELS if n in known]
        report = {
            "date": date.today().isoformat(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "max_overhead": MAX_OVERHEAD,
            "rows": rows,
        }
        args.output.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{text(rows)}")
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
