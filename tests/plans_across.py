"""Plans saved in one environment and applied in another, of another torch.

`python -m tests.plans_across save FOLDER [MODEL ...]` plans models of the benchmarks' zoo and saves
the plans; `apply FOLDER [MODEL ...]`, in the other environment, applies each to the same model,
trains a step by it, and compares with eager. Exits 1 if any plan is refused, or does anything that
it did not promise.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

import pebble
from pebble.measure.step import trace_step
from pebble.plan.optimization import plan_step
from tests.house import ROOT

# No Whisper: that of transformers 5.17 drops layers by a number drawn as a tensor, which no graph
# can follow under any torch.
MODELS = (
    "llama_small", "gpt2_dropout", "bert_dropout", "vit", "t5", "convnext", "resnet", "unet",
    "llama_lora", "autocast_mlp",
)  # fmt: skip


def zoo(name: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A model of the benchmarks, seeded, and its inputs."""
    folder = str(ROOT / "benchmarks")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    from models import ZOO

    return ZOO[name]()


def save(name: str, path: Path) -> str:
    """Save a plan that recomputes: a third of what there is to save, saved."""
    step = trace_step(*zoo(name), optimizer=None)
    budget = (step.footprint.peak_lower_bound + 2 * step.footprint.unplanned_peak) // 3
    plan = plan_step(step, budget, solver="greedy", time_limit=20)
    assert plan.recomputed, f"The plan of {name} recomputes nothing: it shows nothing."
    plan.save(path)
    return f"{len(plan.recomputed)} of {len(plan.problem.graph.ops)} ops again"


def apply(name: str, path: Path) -> str:
    """Train a step by a saved plan; its numbers are eager's."""
    model, inputs = zoo(name)
    plan = pebble.load_plan(path)
    assert isinstance(plan, pebble.Plan)
    assert plan.record.torch_version != torch.__version__, "The plan is of this very torch."
    planned = plan.apply(model)
    output = planned(**inputs)
    (output if torch.is_tensor(output) else output.loss).backward()
    assert any(p.grad is not None for p in model.parameters())
    model.zero_grad()
    report = plan.validate(model, inputs, repeats=1)
    assert report.ok, str(report)
    bits = "equal" if report.ok_bitwise else "equal but for rounding"
    return f"bits {bits}, peak {report.measured_peak_bytes:,} of {report.predicted_peak_bytes:,}"


def main(action: str, folder: str, *names: str) -> int:
    """A line for each of the models of these names, of all by default; 1 if one fails."""
    torch.set_num_threads(1)
    failed = 0
    for name in names or MODELS:
        try:
            done = {"save": save, "apply": apply}[action](name, Path(folder) / f"{name}.json")
        except (pebble.PebbleError, AssertionError, FileNotFoundError) as error:
            done, failed = f"FAILED: {error}", failed + 1
        sys.stdout.write(f"{action:5} {name:12} torch {torch.__version__}: {done}\n")
        sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
