"""The sections of the report on the zoo: plans beside eager, and sweeps of budgets."""

from __future__ import annotations

from typing import Any

from report_tables import markdown, percent

from pebble.formatting import gigabytes


def zoo(data: dict[str, Any]) -> str:
    """Models x budgets x solvers."""
    s = data["summary"]
    rows = [row for result in data["models"] for row in zoo_rows(result)]
    header = ["model", "ops", "no plan", "least known", "working-set bound", "beside eager",
              "solver", "extra compute at the least", "25 %", "50 %", "75 %",
              "no plan's peak"]  # fmt: skip
    machine = f"load average {data['load']:.0f} on {data['cores']} cores at its end"
    parts = [
        f"`{data['command']}` ({data['date']}, torch {data['torch']}, {data['threads']} threads, "
        f"{machine}): {s['models']} models, {s['rows']} rows, {s['no_plan']} without a plan "
        f"({s['no_plan_auto']} of auto), {s['failures']} failures, {s['inexact']} peaks not to the "
        f"byte, {len(s['rising_sweeps'])} sweeps with a rising cost. A row with a plan passes if "
        "measured peak = predicted peak to the byte, within the budget; loss, gradients, buffers "
        "and random state are those of an eager step on the same model, inputs and random state; "
        "and they are bit for bit those of the captured step with everything kept.",
        f"Beside eager {s['bitwise']} rows are equal bit for bit and {s['rounding']} up to "
        f"rounding, at most {s['largest_rounding']:.0e} of the largest entry of a tensor. An "
        "asterisk: the solver named found none, and the plan is one that was known already.",
        markdown(header, rows),
    ]
    rounded = zoo_rounding(data["models"])
    if rounded:
        parts.append(f"What differs first where it is rounding:\n\n{rounded}")
    return "\n\n".join(parts)


def zoo_rows(result: dict[str, Any]) -> list[list[str]]:
    """The lines of a model, one a solver."""
    if "error" in result:
        return [[result["model"], *["-"] * 5, "NOT PLANNED", *["-"] * 5]]
    budgets = sorted({row["budget"] for row in result["rows"]})
    verdicts = sorted({row["eager"] for row in result["rows"] if row["plan"]})
    facts = [
        result["model"],
        str(result["ops"]),
        gigabytes(result["baseline_bytes"]),
        gigabytes(result["least_bytes"]),
        gigabytes(result["bound_bytes"]),
        ", ".join(verdicts),
    ]
    lines = []
    for solver in ("greedy", "sqrt", "auto"):
        cells = {r["budget"]: r for r in result["rows"] if r["solver"] == solver}
        lines.append([*facts, solver, *(zoo_cell(cells[budget]) for budget in budgets)])
        facts = [""] * len(facts)
    return lines


def zoo_cell(row: dict[str, Any]) -> str:
    """The extra compute of a row."""
    if not row["plan"]:
        return "no plan"
    return percent(row["overhead"]) + ("" if row["found_by"] == row["solver"] else " *")


def zoo_rounding(models: list[dict[str, Any]]) -> str:
    """A line for each model that is not eager's bit for bit."""
    lines = []
    for result in models:
        rows = [row for row in result["rows"] if row["plan"] and row["eager"] != "bitwise"]
        if rows:
            worst = max(row["eager_difference"] for row in rows)
            lines.append(f"* {result['model']}: {rows[0]['eager_first']}; {worst:.0e} at most")
    return "\n".join(lines)


def sweeps(data: dict[str, Any]) -> str:
    """Budgets that were planned alone."""
    s = data["summary"]
    return (
        f"`{data['command']}` ({data['date']}, torch {data['torch']}): {s['models']} models x "
        f"{s['budgets']} budgets ({', '.join(m['model'] for m in data['models'])}), each planned "
        f"alone, in drawn order and with a seed of its own, {s['plans']} plans in all: "
        f"{s['rises']} rises of the cost with the budget, {s['refusals']} refusals at or above a "
        "known peak."
    )
