"""A plan in words: the table that `print(plan)` shows, and its HTML twin."""

from __future__ import annotations

from html import escape

from pebble.formatting import gigabytes, table
from pebble.plan.figures import PlanFigures


def outcome(*, peak_bytes: int, budget_bytes: int, overhead: float, gap: float) -> str:
    """What came out, in one line.

    Examples
    --------
    >>> outcome(peak_bytes=9 * 10**8, budget_bytes=10**9, overhead=0.05, gap=0.001)
    '900.00 MB of 1.00 GB, 5.00 % more compute, at most 0.10 % above the bound'
    """
    return (
        f"{gigabytes(peak_bytes)} of {gigabytes(budget_bytes)}, {100 * overhead:.2f} % more "
        f"compute, at most {100 * gap:.2f} % above the bound"
    )


def headline(plan: PlanFigures) -> str:
    """Model, budget, solver, status and gap in one line."""
    measured = "" if plan.workspace_measured else ", workspace not measured"
    return (
        f"Plan for {plan.model} within {gigabytes(plan.budget_bytes)}: "
        f"{plan.status} ({plan.solver}, {plan.runtime:.1f} s, seed {plan.seed}{measured}), "
        f"at most {plan.gap:.2%} above the bound ({plan.scope})"
    )


def comparison(plan: PlanFigures) -> tuple[list[str], list[list[str]]]:
    """Header and rows of no plan / this plan / lower bound."""
    header = ["", "peak", "extra compute", "saved for backward", "ops recomputed"]
    rows = [
        [
            "no plan",
            gigabytes(plan.unplanned.peak_bytes),
            "0.00 %",
            gigabytes(plan.unplanned.saved_bytes),
            "0",
        ],
        [
            "this plan",
            gigabytes(plan.peak_bytes),
            f"{100 * plan.overhead:.2f} %",
            gigabytes(plan.saved_bytes),
            str(plan.recomputed),
        ],
        [
            "lower bound",
            gigabytes(plan.floor_bytes),
            f"{100 * plan.bound_overhead:.2f} %",
            "",
            "",
        ],
    ]
    return header, rows


def memory_line(plan: PlanFigures) -> str:
    """What the predicted peak is made of."""
    parts = [f"{gigabytes(size)} {kind}" for kind, size in plan.memory.items() if size]
    return f"At the peak: {', '.join(parts)}."


def chunks_line(plan: PlanFigures) -> str:
    """What splitting the loss means for the numbers and for the caller; empty without it."""
    if not plan.chunks:
        return ""
    return (
        f"Head and loss run in {plan.chunks} chunks of tokens: in one piece the step needs at "
        f"least {gigabytes(plan.unplanned.floor_bytes)}. Gradients equal the un-planned step's up "
        "to rounding, and the model's output holds no logits."
    )


def outputs_line(plan: PlanFigures) -> str:
    """What the caller does not get; empty where that is nothing."""
    if plan.outputs == "all":
        return ""
    return "A planned call returns the loss, and None for every other tensor of the model's output."


def plan_text(plan: PlanFigures) -> str:
    """Header, table, breakdown."""
    lines = (
        memory_line(plan),
        plan.kernels_text,
        plan.card_text,
        outputs_line(plan),
        chunks_line(plan),
    )
    parts = [headline(plan), table(*comparison(plan)), *lines]
    return "\n\n".join(part for part in parts if part)


def plan_html(plan: PlanFigures) -> str:
    """The same, with the memory curve as inline SVG."""
    header, rows = comparison(plan)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f"<div><p><b>{escape(headline(plan))}</b></p><table><tr>{head}</tr>{body}</table>"
        f"<p>{escape(memory_line(plan))}</p><p>{escape(plan.kernels_text)}</p>"
        f"<p>{escape(plan.card_text)}</p>"
        f"<p>{escape(outputs_line(plan))}</p><p>{escape(chunks_line(plan))}</p>"
        f"{_curve(plan)}</div>"
    )


def _curve(plan: PlanFigures, width: int = 600, height: int = 140) -> str:
    """Memory over the schedule: without plan grey, with plan blue, the budget dashed red."""
    top = max(plan.unplanned.peak_bytes, plan.budget_bytes, 1)
    resident = plan.resident_bytes

    def line(live: list[int], colour: str) -> str:
        step = max(len(live) // width, 1)
        heights = [max(live[k : k + step]) for k in range(0, len(live), step)]
        points = " ".join(
            f"{k * width / max(len(heights) - 1, 1):.1f},{height * (1 - (resident + h) / top):.1f}"
            for k, h in enumerate(heights)
        )
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'

    budget = height * (1 - plan.budget_bytes / top)
    return (
        f'<svg width="{width}" height="{height}" role="img" '
        'aria-label="memory over the schedule, without and with the plan">'
        f"{line(plan.unplanned_live.tolist(), '#999999')}{line(plan.live.tolist(), '#1f77b4')}"
        f'<line x1="0" x2="{width}" y1="{budget:.1f}" y2="{budget:.1f}" stroke="#d62728" '
        'stroke-dasharray="6 4"/></svg>'
    )
