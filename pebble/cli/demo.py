"""The demonstration: a small GPT-2 with dropout, planned at three budgets, measured and trained."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import torch
from torch import nn

from pebble.budget import least_known_peak
from pebble.errors import PebbleError
from pebble.formatting import gigabytes, table
from pebble.measure.step import Step, trace_step
from pebble.plan.optimization import plan_step

BATCH, LENGTH = 4, 256
SHARES = (0.0, 0.3, 0.6)
"""Where the three budgets lie between the least one and the un-planned peak."""


@dataclass(frozen=True)
class DemoRow:
    """One budget: bytes of the whole step, and what was measured."""

    budget: int
    predicted: int
    measured: int
    overhead: float
    gap: float
    exact_gradients: bool
    same_losses: bool
    seconds: float

    @property
    def ok(self) -> bool:
        """Everything that the demonstration promises."""
        exact = self.predicted == self.measured <= self.budget
        return exact and self.exact_gradients and self.same_losses


@dataclass(frozen=True)
class DemoReport:
    """The rows, and the un-planned peak they are to be compared with."""

    model: str
    baseline: int
    rows: tuple[DemoRow, ...]

    @property
    def ok(self) -> bool:
        """Whether every row is as promised."""
        return all(row.ok for row in self.rows)

    def data(self) -> dict[str, Any]:
        """Plain data."""
        rows = [asdict(row) | {"ok": row.ok} for row in self.rows]
        return {"model": self.model, "baseline": self.baseline, "rows": rows, "ok": self.ok}

    def __str__(self) -> str:
        yes = {True: "yes", False: "NO"}
        header = [
            "budget", "predicted bytes", "measured bytes", "equal", "<= budget", "extra compute",
            "above bound", "gradients bitwise", "3 steps: same losses",
        ]  # fmt: skip
        rows = [
            [
                gigabytes(row.budget),
                f"{row.predicted:,}",
                f"{row.measured:,}",
                yes[row.predicted == row.measured],
                yes[row.measured <= row.budget],
                f"{100 * row.overhead:.2f} %",
                f"{100 * row.gap:.2f} %",
                yes[row.exact_gradients],
                yes[row.same_losses],
            ]
            for row in self.rows
        ]
        verdict = "Everything as promised." if self.ok else "NOT as promised: see the rows above."
        title = f"{self.model}; no plan: {gigabytes(self.baseline)}"
        return f"{title}\n\n{table(header, rows)}\n\n{verdict}"


def gpt2_step() -> Step:
    """A GPT-2 of four layers (Hugging Face configuration, dropout 0.1) on real bytes of text."""
    try:
        from transformers import GPT2Config, GPT2LMHeadModel
    except ImportError:
        raise PebbleError("The demo needs transformers; install the extra 'hf'.") from None
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=256, n_positions=LENGTH, n_embd=192, n_layer=4, n_head=6,
        resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1, use_cache=False,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).train()
    ids = text_ids()
    return trace_step(model, {"input_ids": ids, "labels": ids}, optimizer="adamw")


def text_ids() -> torch.Tensor:
    """Bytes of the text in this package, shape (BATCH, LENGTH)."""
    text = files("pebble.cli").joinpath("demo_text.txt").read_bytes()
    return torch.tensor(list(text[: BATCH * LENGTH])).reshape(BATCH, LENGTH)


def run_demo(*, progress: Callable[[str], None] | None = None) -> DemoReport:
    """Plan, validate and train at three budgets, on one thread.

    So small a model gains little from more, and on a busy machine they wait for one another.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _demonstrate(progress)
    finally:
        torch.set_num_threads(threads)


def _demonstrate(progress: Callable[[str], None] | None) -> DemoReport:
    say = progress or (lambda text: None)
    say("a GPT-2 of 4 layers with dropout 0.1")
    step = gpt2_step()
    unplanned = step.footprint.unplanned_peak
    least = least_known_peak(step.footprint, time_limit=6.0)
    reference = train_losses(step.model, step)
    rows = []
    for share in SHARES:
        budget = int(least.peak_bytes + share * (unplanned - least.peak_bytes))
        say(f"planned, applied and measured within {gigabytes(budget)}")
        plan = plan_step(step, budget, time_limit=3.0, start=least.schedule)
        checked = plan.validate(repeats=1)
        planned = train_losses(step.model, step, apply=plan.apply)
        rows.append(
            DemoRow(
                budget=budget,
                predicted=plan.peak_bytes,
                measured=checked.measured_peak_bytes,
                overhead=plan.overhead,
                gap=plan.gap,
                exact_gradients=checked.gradients_equal,
                same_losses=planned == reference,
                seconds=plan.runtime,
            )
        )
    name = f"GPT-2, {len(step.graph.ops)} ops, batch {BATCH} x {LENGTH} tokens, AdamW"
    return DemoReport(name, unplanned, tuple(rows))


def train_losses(
    model: nn.Module, step: Step, *, apply: Callable[..., nn.Module] | None = None
) -> list[float]:
    """Losses of three optimizer steps on a copy of the model, with the same seed."""
    model = copy.deepcopy(model)
    run = model if apply is None else apply(model)
    optimizer = torch.optim.AdamW(run.parameters(), lr=1e-3)
    torch.manual_seed(1)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = run(*step.inputs.args, **step.inputs.kwargs).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
