"""Rows of `gpu.py`, each run in a process of its own: prints one line of JSON.

python benchmarks/gpu_rows.py '{"kind": "probe", "device": "cpu", "tiny": true}'
"""

from __future__ import annotations

import gc
import json
import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from gpu_models import loss_of, made, trainer
from gpu_probe import probe
from torch import nn

from pebble.measure.allocator import trace_memory
from pebble.measure.card_counters import card_peaks, seconds_of
from pebble.runtime.planned_module import build
from pebble.schedule import Schedule
from pebble.tracing.captured import Captured
from pebble.tracing.inputs import make_inputs
from pebble.tracing.step_form import StepForm

STEPS = 5
FACTORS = (1.10, 1.05, 1.02, 1.00)


class Case:
    """A model on the device, its captured step and the plans that were made elsewhere."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.device = torch.device(row["device"])
        self.on_card = self.device.type == "cuda"
        self.saved = json.loads((Path(row["plans"]) / f"{row['model']}.json").read_text())
        self.model, self.inputs = made(row["model"], row["device"], tiny=row["tiny"])
        found = make_inputs(self.model, self.inputs)
        form = StepForm(card=None)
        self.captured: Captured = form.capture(self.model, found.args, found.kwargs)

    @property
    def equal(self) -> bool:
        """Whether the plans are for this very graph."""
        return bool(self.captured.graph.fingerprint == self.saved["fingerprint"])

    def planned(self, plan: dict[str, Any]) -> nn.Module:
        return build(self.model, self.captured, Schedule(plan["order"]))

    def plans(self) -> list[dict[str, Any]]:
        return [plan for plan in self.saved["plans"] if "order" in plan]

    def half(self) -> dict[str, Any]:
        """The plan of half of the memory, or the leanest there is."""
        by_name = {plan["name"]: plan for plan in self.plans()}
        return by_name.get("50%") or self.plans()[-1]


def peaks_of(case: Case, step: Callable[[], None]) -> dict[str, int]:
    """Counters over whole steps, all that is there included; on the CPU what tensors asked for."""
    if case.on_card:
        gc.collect()
        torch.cuda.empty_cache()
        return asdict(card_peaks(lambda: [step() for _ in range(STEPS)], case.device))
    return {"beyond_resident": trace_memory(lambda: [step() for _ in range(STEPS)]).peak}


def model_row(row: dict[str, Any]) -> dict[str, Any]:
    """The fingerprint, and predicted and measured bytes of every plan."""
    case = Case(row)
    found: dict[str, Any] = {"equal": case.equal, "ops": len(case.captured.graph.ops)}
    if not case.equal:
        ours = [op.kind for op in case.captured.graph.ops]
        pairs = enumerate(zip(ours, case.saved["kinds"], strict=False))
        found["difference"] = next((f"op {i}: {a} | {b}" for i, (a, b) in pairs if a != b), "")
        return found
    found["budgets"] = []
    for plan in case.saved["plans"]:
        said = {key: plan[key] for key in ("name", "budget", "refused") if key in plan}
        if "order" in plan:
            step = trainer(case.planned(plan), case.model, case.inputs)
            said |= {"predicted": plan["predicted"]["default"], "measured": peaks_of(case, step)}
            del step
        found["budgets"].append(said)
    return found


def cap_row(row: dict[str, Any]) -> dict[str, Any]:
    """Whether steps run where the allocator may reserve the budget times a factor."""
    case = Case(row)
    if not case.equal:
        return {"equal": False}
    found: dict[str, Any] = {"expandable": row["expandable"], "runs": []}
    for plan in case.plans():
        for factor in FACTORS:
            if case.on_card:
                total = torch.cuda.get_device_properties(case.device).total_memory
                gc.collect()
                torch.cuda.empty_cache()
                torch.cuda.set_per_process_memory_fraction(factor * plan["budget"] / total)
            step = trainer(case.planned(plan), case.model, case.inputs)
            try:
                for _ in range(STEPS if case.on_card else 1):
                    step()
                outcome = "ran"
            except torch.OutOfMemoryError:
                outcome = "out of memory"
                case.model.zero_grad()
            del step
            found["runs"].append({"plan": plan["name"], "factor": factor, "outcome": outcome})
    return found


def bits_row(row: dict[str, Any]) -> dict[str, Any]:
    """Whether loss and gradients are eager's, bit for bit, with deterministic kernels."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    case = Case(row)
    if not case.equal:
        return {"equal": False}

    def results(module: nn.Module) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        case.model.zero_grad()
        loss = loss_of(module(**case.inputs))
        loss.backward()
        named = case.model.named_parameters()
        return {"loss": loss.detach(), **{n: p.grad for n, p in named if p.grad is not None}}

    state = {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
    expected = {name: tensor.clone() for name, tensor in results(case.model).items()}
    case.model.load_state_dict(state)
    again = results(case.model)
    case.model.load_state_dict(state)
    found = results(case.planned(case.half()))
    return {
        "tensors": len(expected),
        "bitwise": same(found, expected),
        "eager_with_itself": same(again, expected),
    }


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], tensor) for name, tensor in expected.items()
    )


def time_row(row: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a step one way; each way has a process, since each leaves caches behind."""
    case = Case(row)
    way, plan = row["way"], case.half()
    runs: Callable[..., Any] = case.model
    if way == "pebble":
        if not case.equal:
            return {"equal": False}
        runs = case.planned(plan)
    elif way == "hf checkpointing":
        if not hasattr(case.model, "gradient_checkpointing_enable"):
            return {"skipped": "the model has no gradient_checkpointing_enable"}
        case.model.gradient_checkpointing_enable()
    elif way == "torch budget":
        import torch._functorch.config as functorch_config

        functorch_config.activation_memory_budget = 0.5
        back_end = "inductor" if case.on_card else "aot_eager_decomp_partition"
        runs = torch.compile(case.model, backend=back_end)
    step = trainer(runs, case.model, case.inputs)
    for _ in range(3):
        step()
    seconds = seconds_of(step, case.device, repeats=STEPS)
    return {"way": way, "seconds": seconds, "peaks": peaks_of(case, step)}


def snapshot_row(row: dict[str, Any]) -> dict[str, Any]:
    """What torch's allocator did in two steps, to hold the simulator against."""
    case = Case(row)
    if not case.equal:
        return {"equal": False}
    step = trainer(case.planned(case.half()), case.model, case.inputs)
    if not case.on_card:
        live = trace_memory(lambda: [step(), step()]).live
        return {"events": len(live), "plan": case.half()["name"]}
    torch.cuda.memory._record_memory_history(context=None)
    step()
    step()
    snapshot = torch.cuda.memory._snapshot()
    events = [[e["action"], e["addr"], e["size"]] for e in snapshot["device_traces"][0]]
    segments = [[s["total_size"], s["segment_type"]] for s in snapshot["segments"]]
    predicted = case.half()["predicted"]["default"]
    return {"plan": case.half()["name"], "predicted": predicted, "events": events,
            "segments": segments}  # fmt: skip


ROWS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "probe": probe,
    "model": model_row,
    "cap": cap_row,
    "bits": bits_row,
    "time": time_row,
    "snapshot": snapshot_row,
}


def main() -> int:
    """Run the row that is asked for."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    row = json.loads(sys.argv[1])
    sys.stdout.write("\n" + json.dumps(ROWS[row["kind"]](row)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
