"""What is said where no plan fits: the least budget known, what it is made of, what to try."""

from __future__ import annotations

from collections.abc import Sequence

from pebble.budget import GRADIENTS_AND_STEP, Footprint, LeastKnown
from pebble.errors import InfeasibleBudget
from pebble.formatting import gigabytes, rounded_up_gb
from pebble.referee import simulate


def infeasible_budget(
    step: Footprint,
    budget_bytes: int,
    least: LeastKnown,
    *,
    subject: str = "this model",
    advice: Sequence[str] = (),
) -> InfeasibleBudget:
    """The error for a budget below the least one known.

    Parameters
    ----------
    subject : str
        What does not fit.
    advice : sequence of str
        What else would help, before the advice that always holds.
    """
    asked, known = gigabytes(budget_bytes), gigabytes(least.peak_bytes)
    if asked == known:
        asked, known = f"{budget_bytes:,} bytes", f"{least.peak_bytes:,} bytes"
    tries = [*advice, "a smaller micro-batch", "a leaner optimizer", "frozen parameters (LoRA)"]
    text = (
        f"{asked} is below the least budget known for {subject}, {known}: "
        f"{_made_of(step, least)}. Try {', '.join(tries)}, or "
        f"budget_gb={rounded_up_gb(least.peak_bytes)}."
    )
    return InfeasibleBudget(text, budget_bytes=budget_bytes, least_bytes=least.peak_bytes)


def fits_no_longer(peak_bytes: int, budget_bytes: int) -> InfeasibleBudget:
    """The error for a plan made without temporaries that does not fit with them."""
    return InfeasibleBudget(
        f"With the temporaries of this machine's kernels the plan needs {peak_bytes:,} bytes, "
        f"above its budget of {budget_bytes:,} bytes. Call pebble.optimize with the real model.",
        budget_bytes=budget_bytes,
    )


def _made_of(step: Footprint, least: LeastKnown) -> str:
    trace = simulate(step.graph, least.schedule)
    kinds = step.kinds_at_peak(trace)
    if step.in_optimizer_step(trace):
        kinds["gradients and the optimizer's step"] = kinds.pop(GRADIENTS_AND_STEP)
        moment = "in the optimizer's step"
    else:
        op = step.graph.ops[least.schedule.order[trace.peak_step]]
        moment = f"while {op.name!r}{f' of {op.module}' if op.module else ''} runs"
    listed = ", ".join(f"{gigabytes(size)} {kind}" for kind, size in kinds.items() if size)
    return f"{listed} ({moment})"
