"""Write benchmarks/README.md from the results that the benchmarks left in results/*.json.

python benchmarks/report.py
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pebble.report import gigabytes

HERE = Path(__file__).parent


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, first column left, others right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def percent(fraction: float | None) -> str:
    """A fraction in per cent."""
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def zoo(data: dict[str, Any]) -> str:
    """Models x budgets x solvers."""
    summary = data["summary"]
    rows = []
    for result in data["models"]:
        budgets = sorted({row["budget"] for row in result["rows"]})
        for solver in ("greedy", "sqrt", "auto"):
            cells = {r["budget"]: r for r in result["rows"] if r["solver"] == solver}
            shown = [percent(cells[b].get("overhead")) if cells[b]["plan"] else "no plan"
                     for b in budgets]  # fmt: skip
            first = solver == "greedy"
            rows.append(
                [
                    result["model"] if first else "",
                    str(result["ops"]) if first else "",
                    gigabytes(result["baseline_bytes"]) if first else "",
                    gigabytes(result["least_bytes"]) if first else "",
                    gigabytes(result["bound_bytes"]) if first else "",
                    solver,
                    *shown,
                ]
            )
    header = ["model", "ops", "no plan", "least known", "working-set bound", "solver",
              "extra compute at the least", "25 %", "50 %", "75 %", "no plan's peak"]  # fmt: skip
    return (
        f"`{data['command']}` ({data['date']}, torch {data['torch']}, {data['threads']} threads): "
        f"{summary['rows']} rows, {summary['no_plan']} without a plan "
        f"({summary['no_plan_auto']} of auto), {summary['failures']} failures. A row with a plan "
        "passes if measured peak = predicted peak to the byte, within the budget, and gradients "
        "and buffers are bit for bit those of the step with everything kept.\n\n"
        + markdown(header, rows)
    )


def peers(data: dict[str, Any]) -> str:
    """pebble beside its peers."""
    rows = []
    for result in data["models"]:
        for row in result["rows"]:
            ours = row.get("pebble")
            rows.append(
                [
                    result["model"],
                    row["peer"],
                    f"{row['peak'] / 1e6:.2f}",
                    f"{row['flops'] / 1e9:.4f}",
                    "no plan" if ours is None else f"{row['pebble_peak'] / 1e6:.2f}",
                    "-" if ours is None else f"{ours / 1e9:.4f}",
                ]
            )
    for result in data["models"]:
        for row in result["failed"]:
            rows.append([result["model"], row["peer"], "failed", row["failed"][:60], "-", "-"])
    header = ["model", "peer", "peak MB", "extra GFLOP", "pebble: peak MB", "extra GFLOP"]
    facts = "\n".join(
        f"* {key.replace('_', ' ')}: {value}" for key, value in data["summary"].items()
    )
    return (
        f"`{data['command']}` ({data['date']}, torch {data['torch']}, {data['threads']} threads). "
        "Each row: what a peer measured, and pebble at that very peak.\n\n"
        f"{facts}\n\n{markdown(header, rows)}"
    )


def published(data: dict[str, Any]) -> str:
    """Published graphs."""
    rows = []
    for cell in data["cells"]:
        found = [run["ci"] for run in cell["runs"] if run["ci"] is not None]
        rows.append(
            [
                f"{cell['graph']} {cell['budget']} %",
                f"{statistics.median(found):.3f}" if found else "none",
                " ".join("none" if r["ci"] is None else f"{r['ci']:.3f}" for r in cell["runs"]),
                "/".join(sorted({r["status"] for r in cell["runs"]})),
                f"{statistics.mean(r['seconds'] for r in cell['runs']):.0f}",
            ]
        )
    header = ["cell", "CI % (median)", "every seed", "status", "seconds"]
    return f"`{data['command']}` ({data['date']}).\n\n{markdown(header, rows)}"


SECTIONS: list[tuple[str, str, Callable[[dict[str, Any]], str]]] = [
    ("zoo", "Predicted and measured, to the byte", zoo),
    ("peers", "Beside peers", peers),
    ("published", "Published graphs", published),
]


def main() -> None:
    """Read what is there, write the page."""
    parts = [
        "# Benchmarks\n\nWritten by `python benchmarks/report.py` from `results/*.json`. Machines "
        "are noisy: compare columns of one table, not seconds of two. What is not here was not "
        "measured."
    ]
    for name, title, write in SECTIONS:
        path = HERE / "results" / f"{name}.json"
        body = write(json.loads(path.read_text())) if path.exists() else "Not measured."
        parts.append(f"## {title}\n\n{body}")
    (HERE / "README.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
