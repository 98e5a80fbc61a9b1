"""One budget over batches of any shape: every step planned, within the budget, equal to eager.

    python benchmarks/any_batch.py [--models gpt2,llama] [--batches 200] [--alone 6]

Batches have skewed, seeded sizes; the budget is a share of what the largest one needs without a
plan. Each step is measured (whole step, CPU allocator); loss and gradients are compared with
eager's on sampled batches, dropout on. Some shapes, quantiles of those drawn, are planned alone,
too, and the extra compute is compared. Exit status 1 if a step runs without a plan, is above the
budget or its prediction, more than 2 % below it, or differs from eager; if there are more than 3
traces, 8 schedules, or half a point more extra compute than alone.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from any_batch_models import MODELS, Batch, Case, Sizes
from torch import nn

import pebble
from pebble.formatting import gigabytes, table
from pebble.measure.allocator import trace_memory
from pebble.runtime.follower import follower_of
from pebble.runtime.input_forms import InputForm
from pebble.tracing.torch_private.storages import storage_bytes

RESULTS = Path(__file__).parent / "results" / "any_batch.json"
RELATIVE, LOOSE = 1e-5, 0.02
MOST_TRACES, MOST_SCHEDULES, MOST_EXTRA = 3, 8, 0.005
FIRST = 10
"""Batches after which nothing of a language model is traced any more."""


@dataclass
class Row:
    """What came out for one model.

    Attributes
    ----------
    most_under, least_under : float
        By how much a step was below its prediction, as a share of it.
    last_trace, last_schedule : int
        The number of the batch that needed one.
    switch_us : float
        From one known shape to another: all that is done before the step begins.
    most_extra : float
        Extra compute beside that of the same shape planned alone, the largest difference.
    """

    model: str
    steps: int
    planned: int
    shapes: int
    solves: int
    traces: int
    schedules: int
    last_trace: int
    last_schedule: int
    planning_seconds: float
    budget_bytes: int
    measured_bytes: int
    least_under: float
    most_under: float
    compared: int
    largest_difference: float
    switch_us: float
    alone: int
    most_extra: float

    def wrong(self, *, language: bool) -> list[str]:
        """What does not hold."""
        held = {
            "a step ran without a plan": self.planned == self.steps,
            "above the budget": self.measured_bytes <= self.budget_bytes,
            "above its prediction": self.least_under >= 0,
            "far below its prediction": self.most_under <= LOOSE,
            "differs from eager": self.largest_difference <= RELATIVE,
            "traces": self.traces <= MOST_TRACES,
            "traced late": not language or self.last_trace <= FIRST,
            "schedules": self.schedules <= MOST_SCHEDULES,
            "switches slowly": self.switch_us < 1000,
            "computes more than alone": self.most_extra <= MOST_EXTRA,
        }
        return [what for what, holds in held.items() if not holds]


class Noting:
    """A planner that notes what is computed again for each shape."""

    def __init__(self, planner: Any) -> None:
        self.planner = planner
        self.overheads: dict[InputForm, float] = {}

    def __call__(self, model: nn.Module, args: Any, kwargs: Any) -> Any:
        made = self.planner(model, args, kwargs)
        self.overheads[InputForm.of(args, kwargs)] = made.overhead
        return made

    def __getattr__(self, name: str) -> Any:
        return getattr(self.planner, name)


def measured_step(module: nn.Module, optimizer: Any, batch: Batch) -> tuple[int, float]:
    """Bytes of a whole step up to its gradients, and its loss."""
    state = [t for s in optimizer.state.values() for t in s.values() if torch.is_tensor(t)]
    held = [*module.parameters(), *module.buffers(), *batch.values(), *state]
    kept: list[Any] = []

    def step() -> Any:
        kept.append(module(**batch))
        kept[0]["loss"].backward()

    before = storage_bytes(held)
    return before + trace_memory(step).peak, float(kept[0]["loss"].detach())


class Training:
    """A model that trains on its batches, measured at each."""

    def __init__(self, case: Case, share: float) -> None:
        torch.manual_seed(0)
        net = case.make().train()
        self.case = case
        with warnings.catch_warnings(action="ignore"):
            largest = case.batch(*case.longest)
            whole = pebble.optimize(net, largest, budget_gb=100, solver="keep_all", check=False)
        self.budget = int(share * whole.baseline_peak_bytes)
        self.eager = copy.deepcopy(net)
        self.module = pebble.budgeted(net, budget_bytes=self.budget, display=False)
        self.follower: Any = follower_of(self.module)
        self.noting = self.follower.planner = Noting(self.follower.planner)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-3)
        self.peaks: list[int] = []
        self.under: list[float] = []
        self.differences: list[float] = []
        self.last_trace = self.last_schedule = 0

    def step(self, number: int, batch: Batch, *, compare: bool) -> None:
        """A training step."""
        before = self._known()
        form = InputForm.of((), batch)
        if form not in self.noting.overheads:
            self._plan(batch)
        state = torch.get_rng_state()
        measured, loss = measured_step(self.module, self.optimizer, batch)
        if number:  # the state of the optimizer is there
            predicted = self.follower.members.of(form)[0].promise.peak_bytes
            self.peaks.append(measured)
            self.under.append((predicted - measured) / predicted)
        if compare:
            self._compare(batch, loss, state)
        self.optimizer.step()
        self.optimizer.zero_grad()
        traces, schedules = self._known()
        self.last_trace = number + 1 if traces > before[0] else self.last_trace
        self.last_schedule = number + 1 if schedules > before[1] else self.last_schedule

    def _plan(self, batch: Batch) -> None:
        """Have the plan made before the step is measured: a comparison with eager takes memory."""
        buffers = [b.clone() for b in self.module.buffers()]
        with torch.random.fork_rng(devices=[]):
            self.module(**batch)["loss"].backward()
        for held, old in zip(self.module.buffers(), buffers):
            held.copy_(old)
        self.optimizer.zero_grad()

    def _known(self) -> tuple[int, int]:
        schedules = {member.schedule for member in self.follower.members}
        return self.noting.source.traces, len(schedules)

    def _compare(self, batch: Batch, loss: float, state: torch.Tensor) -> None:
        """Largest difference of loss and gradients to eager's, relative to the largest gradient."""
        after = torch.get_rng_state()
        self.eager.load_state_dict(self.module.state_dict())
        torch.set_rng_state(state)
        self.eager.zero_grad()
        other = self.eager(**batch)["loss"]
        other.backward()
        assert torch.equal(after, torch.get_rng_state()), "random numbers beside the step"
        worst = abs(loss - float(other.detach())) / abs(float(other.detach()))
        for p, q in zip(self.module.parameters(), self.eager.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None)
            if p.grad is not None and q.grad is not None:
                scale = float(q.grad.abs().max()) or 1.0
                worst = max(worst, float((p.grad - q.grad).abs().max()) / scale)
        self.differences.append(worst)

    def switch_us(self, batches: list[Batch]) -> float:
        """The best time, in microseconds, in which a plan for another shape is at hand."""
        best = float("inf")
        forms = [InputForm.of((), batch) for batch in batches]
        for _ in range(20):
            for form, batch in zip(forms, batches):
                began = time.perf_counter()
                self.follower.planned_call(form, self.module, (), batch)
                best = min(best, time.perf_counter() - began)
        return best * 1e6

    def extra(self, sizes: Sizes) -> float:
        """Extra compute of a shape beside what it needs when it is planned alone."""
        torch.manual_seed(1)
        batch = self.case.batch(*sizes)
        mine = self.noting.overheads[InputForm.of((), batch)]
        if not mine:
            return 0.0
        self.optimizer.zero_grad()
        with warnings.catch_warnings(action="ignore"):
            alone = pebble.optimize(
                self.eager, batch, budget_bytes=self.budget, check=False, display=False
            )
        return mine - alone.overhead


def quantiles(drawn: list[Sizes], number: int) -> list[Sizes]:
    """So many of the shapes drawn, spread over their sizes."""
    ordered = sorted(set(drawn))
    return [ordered[i * (len(ordered) - 1) // max(number - 1, 1)] for i in range(number)]


def run(name: str, batches: int, share: float, alone: int) -> Row:
    """Train one model on its batches."""
    case = MODELS[name]
    training = Training(case, share)
    generator = torch.Generator().manual_seed(0)
    drawn = [case.draw(generator, i + 1 == batches) for i in range(batches)]
    drawn[batches // 2] = case.longest  # in the middle: no plan for it is there from the start
    compared = set(random.Random(0).sample(range(batches), min(30, batches)))
    for i, sizes in enumerate(drawn):
        training.step(i, case.batch(*sizes), compare=i in compared)
    found = pebble.status(training.module)
    known = quantiles(drawn, 4)
    switch = training.switch_us([case.batch(*sizes) for sizes in known])
    extra = [training.extra(sizes) for sizes in dict.fromkeys(quantiles(drawn, alone))]
    sources = training.noting.sources
    solved = sum(n for source, n in sources.items() if source.name == "SOLVED")
    traces, schedules = training._known()
    return Row(
        name, batches, found.planned_calls - len(training.noting.overheads),
        len(training.noting.overheads), solved, traces, schedules, training.last_trace,
        training.last_schedule, round(found.planning_seconds, 1), training.budget,
        max(training.peaks), min(training.under), max(training.under),
        len(training.differences), max(training.differences), round(switch, 1), len(extra),
        max(extra, default=0.0),
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
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--alone", type=int, default=6, help="shapes that are planned alone, too")
    parser.add_argument("--share", type=float, default=0.8)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    wrong: dict[str, list[str]] = {}
    for name in asked.models.split(","):
        began = time.perf_counter()
        row = run(name, asked.batches, asked.share, asked.alone)
        rows.append(row)
        wrong[name] = row.wrong(language=MODELS[name].language)
        print(row, wrong[name], f"{time.perf_counter() - began:.0f} s", flush=True)
        write(row)
    header = [
        "model", "steps", "planned", "shapes", "traces", "schedules", "planning", "budget",
        "most measured", "under prediction", "difference", "switch", "extra",
    ]  # fmt: skip
    cells = [
        [
            r.model, str(r.steps), str(r.planned), str(r.shapes), str(r.traces), str(r.schedules),
            f"{r.planning_seconds} s", gigabytes(r.budget_bytes), gigabytes(r.measured_bytes),
            f"{r.least_under:.2%} to {r.most_under:.2%}", f"{r.largest_difference:.1e}",
            f"{r.switch_us:.0f} us", f"{100 * r.most_extra:.2f} pt",
        ]
        for r in rows
    ]  # fmt: skip
    print(table(header, cells))
    return 1 if any(wrong.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
