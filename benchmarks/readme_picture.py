"""The picture at the top of the README: one step within a budget, and what budgets cost.

python benchmarks/readme_picture.py      # writes docs/pictures/step.png
"""

from __future__ import annotations

import logging
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import pebble
from pebble.plotting import plot_memory, plot_tradeoff

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "pictures" / "step.png"
SOLVERS = ("sqrt", "greedy", "priced", "auto")


def model() -> GPT2LMHeadModel:
    """A GPT-2 of six layers with dropout, small enough to be measured anywhere."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=512, n_positions=128, n_embd=128, n_layer=6, n_head=4, use_cache=False,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).train()


def main() -> None:
    """Sweep, plan, measure, draw."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    network, ids = model(), torch.randint(0, 512, (8, 128))
    batch = {"input_ids": ids, "labels": ids}
    table = pebble.sweep(network, batch, budgets=7, solvers=SOLVERS, optimizer=None, time_limit=120)
    least, most = table.rows[0].budget_bytes, table.baseline_peak_bytes
    plan = pebble.optimize(
        network, batch, budget_bytes=(least + most) // 2, optimizer=None, time_limit=40
    )
    report = plan.validate(repeats=1)
    assert report.ok
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(13, 4), width_ratios=(3, 2), layout="constrained"
    )
    plot_memory(plan, measured=report.measured_curve, ax=left)
    plot_tradeoff(table, ax=right)
    left.set_title("A training step of GPT-2: planned and measured")
    right.set_title("What less memory costs, and what is proved")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    print(f"{PICTURE.name}: peak {report.measured_peak_bytes:,} of {plan.budget_bytes:,} bytes")


if __name__ == "__main__":
    main()
