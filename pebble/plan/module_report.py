"""A module-level plan in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from pebble.formatting import count, gigabytes, table


@dataclass(frozen=True)
class ModuleFigures:
    """What a module-level plan says of itself. Bytes are those of the whole step.

    Attributes
    ----------
    model, status, told, reason : str
        `told`: what runs again; `reason`: why there is no graph.
    budget_bytes, peak_bytes, baseline_peak_bytes : int
    error_share, overhead, gap : float
        Fractions.
    chosen, calls : int
        How many run again, of how many.
    memory : mapping
        Bytes by kind at the peak.
    left_out : mapping of str to str
        Blocks that never run again, and why.
    runtime : float
        Seconds.
    seed : int
    """

    model: str
    status: str
    told: str
    reason: str
    budget_bytes: int
    peak_bytes: int
    baseline_peak_bytes: int
    error_share: float
    overhead: float
    gap: float
    chosen: int
    calls: int
    memory: Mapping[str, int]
    left_out: Mapping[str, str]
    runtime: float
    seed: int


def module_headline(plan: ModuleFigures) -> str:
    """Model, budget, status and accuracy in one line."""
    return (
        f"Module-level plan for {plan.model} within {gigabytes(plan.budget_bytes)}: "
        f"{plan.status} ({plan.runtime:.1f} s, seed {plan.seed}), peak predicted within "
        f"{100 * plan.error_share:.1f} %, at most {plan.gap:.2%} above the bound (these blocks)"
    )


def module_rows(plan: ModuleFigures) -> tuple[list[str], list[list[str]]]:
    """Header and rows of no plan / this plan."""
    header = ["", "peak", "extra compute", "calls run again"]
    again = f"{plan.chosen} of {plan.calls}"
    rows = [
        ["no plan", gigabytes(plan.baseline_peak_bytes), "0.00 %", "0"],
        ["this plan", gigabytes(plan.peak_bytes), f"{100 * plan.overhead:.2f} %", again],
    ]
    return header, rows


def module_lines(plan: ModuleFigures) -> list[str]:
    """What runs again, what does not and why, and what the peak is made of."""
    parts = [f"{gigabytes(size)} {kind}" for kind, size in plan.memory.items() if size]
    lines = [
        f"At the peak: {', '.join(parts)}.",
        f"Run again in the backward: {plan.told or 'nothing'}.",
        f"No graph: {plan.reason}",
    ]
    if plan.left_out:
        told = "; ".join(f"{name} {reason}" for name, reason in plan.left_out.items())
        lines.insert(2, f"Never run again ({count(len(plan.left_out), 'block')}): {told}.")
    return lines


def module_text(plan: ModuleFigures) -> str:
    """Headline, table, lines."""
    return "\n\n".join([module_headline(plan), table(*module_rows(plan)), *module_lines(plan)])


def module_html(plan: ModuleFigures) -> str:
    """The same as HTML."""
    header, rows = module_rows(plan)
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    lines = "".join(f"<p>{escape(line)}</p>" for line in module_lines(plan))
    return (
        f"<div><p><b>{escape(module_headline(plan))}</b></p><table><tr>{head}</tr>{body}</table>"
        f"{lines}</div>"
    )
