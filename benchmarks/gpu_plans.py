"""Plans of `gpu.py`, made where no card is: plain files of schedules and what was predicted.

    python benchmarks/gpu_plans.py FOLDER [--card h200] [--time-limit 4]

To be run in the environment that has the transformers of the machine with the card (the one of
`make test-oldest`). The files need no package to be read that a bare machine does not have.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from gpu_models import MODELS, TINY, made

from pebble.allocator.replays import replay
from pebble.allocator.rules import AllocatorSettings
from pebble.allocator.training_events import training_events
from pebble.budget import least_known_peak
from pebble.cards import CARDS
from pebble.errors import InfeasibleBudget
from pebble.measure.step import Step, trace_step
from pebble.plan.optimization import plan_step

SHARES = (1.0, 0.7, 0.5)
"""Of what the step reserves without a plan."""
BEYOND_LEAST = 1.05


def plans_of(step: Step, time_limit: float) -> list[dict[str, Any]]:
    """A plan for each budget of reserved bytes."""
    footprint = step.footprint
    least = least_known_peak(footprint, time_limit=time_limit).schedule
    unplanned = replay(training_events(footprint, footprint_all(step))).reserved
    floor = replay(training_events(footprint, least)).reserved
    budgets = {f"{share:.0%}": int(share * unplanned) for share in SHARES}
    budgets["least + 5 %"] = int(BEYOND_LEAST * floor)
    return [
        {"name": name, "budget": budget, **planned(step, budget, time_limit, least)}
        for name, budget in budgets.items()
    ]


def footprint_all(step: Step) -> Any:
    from pebble.schedule import Schedule

    return Schedule.keep_all(step.graph)


def planned(step: Step, budget: int, time_limit: float, least: Any) -> dict[str, Any]:
    """The schedule for a budget and its predictions, or why there is none."""
    start = least if step.footprint.fits(least, budget) else None
    try:
        plan = plan_step(step, budget, time_limit=time_limit, start=start, budget_kind="reserved")
    except InfeasibleBudget as error:
        return {"refused": str(error)}
    events = training_events(plan.footprint, plan.schedule)
    by_kind = {
        kind: replay(events, AllocatorSettings(expandable_segments=kind == "expandable"))
        for kind in ("default", "expandable")
    }
    return {
        "order": list(plan.schedule.order),
        "overhead": plan.overhead,
        "at_limit": plan.cap.at_limit,
        "predicted": {
            kind: {
                "requested": peaks.requested,
                "allocated": peaks.allocated,
                "reserved": peaks.reserved,
            }
            for kind, peaks in by_kind.items()
        },
    }


def save(folder: Path, name: str, card: str | None, time_limit: float, *, tiny: bool) -> None:
    """Plan a model and write its file."""
    model, inputs = made(name, "cpu", tiny=tiny)
    step = trace_step(model, inputs, optimizer="adamw", card=card)
    data = {
        "model": name,
        "card": card,
        "torch": torch.__version__,
        "transformers": step.record.transformers_version,
        "fingerprint": step.graph.fingerprint,
        "kinds": [op.kind for op in step.graph.ops],
        "kernels": dict(step.record.kernels),
        "plans": plans_of(step, time_limit),
    }
    (folder / f"{name}.json").write_text(json.dumps(data))


def main() -> int:
    """Plan all models; a model that cannot be planned is said and left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--card", default="h200", choices=(*CARDS, "cpu"))
    parser.add_argument("--time-limit", type=float, default=4.0)
    parser.add_argument("--tiny", action="store_true", help="two models at the zoo's batch")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    card = None if args.card == "cpu" else args.card
    failed = 0
    for name in TINY if args.tiny else MODELS:
        try:
            save(args.folder, name, card, args.time_limit, tiny=args.tiny)
            said = "planned"
        except Exception as error:  # the others are worth having
            said, failed = f"FAILED: {type(error).__name__}: {error}", failed + 1
        sys.stdout.write(f"{name}: {said}\n")
        sys.stdout.flush()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
