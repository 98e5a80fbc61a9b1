"""What the checks of one planned call cost on a 12-layer GPT-2.

python benchmarks/guards.py

All checks of a call (modules, parameters, buffers, Python values, inputs) and its parts, each the
best of 50 in processor time, beside the best of 5 planned steps at batch 1 x 128. Figures go into
benchmarks/results/guards.json; exit status 1 if the checks take more than 1 ms or 1 % of the step.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
from models import language

import pebble
from pebble.runtime.follower import follower_of, unplanned

RESULTS = Path(__file__).parent / "results" / "guards.json"
TIMES, STEPS = 50, 5
WIDTH = 384
LIMIT_US, LIMIT_SHARE = 1000, 0.01


def best_us(run: Callable[[], Any], times: int = TIMES) -> float:
    """The least processor time of a call, in microseconds; other programs do not count."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return min(taken) * 1e6


def measure() -> dict[str, float]:
    """Times in microseconds, and the share of a step."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_positions=128, n_embd=WIDTH, use_cache=False, loss_type="ForCausalLM")
    model, inputs = language(GPT2LMHeadModel(config).train(), 1, 128, 50257)
    plan = pebble.optimize(model, inputs, budget_gb=100, solver="keep_all", costs="flops")
    planned = plan.apply(model)
    planned(**inputs).loss.backward()
    follower = follower_of(planned)
    guards, plain = follower.guards, unplanned(planned)
    held = guards.model.match(plain)
    assert guards.python is not None
    python = guards.python
    parts = {
        "model without its plan": best_us(lambda: unplanned(planned)),
        "modules, parameters, buffers": best_us(lambda: guards.model.match(plain)),
        "Python values": best_us(lambda: python.match(plain, held)),
        "inputs": best_us(lambda: guards.inputs.match(plain.forward, (), inputs)),
        "all checks": best_us(lambda: follower.match(planned, (), inputs)),
    }

    def step() -> None:
        planned.zero_grad()
        planned(**inputs).loss.backward()

    parts["step"] = best_us(step, STEPS)
    return parts


def main() -> int:
    """Measure, print, write."""
    torch.set_num_threads(1)
    taken = measure()
    share = taken["all checks"] / taken["step"]
    data = {
        "command": "python benchmarks/guards.py",
        "date": str(date.today()),
        "pebble": pebble.__version__,
        "torch": torch.__version__,
        "model": f"GPT-2, 12 layers, width {WIDTH}, batch 1 x 128",
        "times": TIMES,
        "microseconds": {name: round(us, 1) for name, us in taken.items()},
        "share_of_step": round(share, 5),
    }
    RESULTS.write_text(json.dumps(data, indent=1) + "\n")
    for name, us in taken.items():
        print(f"{name}: {us:.0f} us")
    print(f"all checks: {share:.3%} of a step")
    return int(taken["all checks"] > LIMIT_US or share > LIMIT_SHARE)


if __name__ == "__main__":
    raise SystemExit(main())
