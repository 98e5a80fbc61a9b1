"""The section of benchmarks/README.md on the loops that people have."""

from __future__ import annotations

from typing import Any

from pebble.formatting import gigabytes


def integrations(data: dict[str, Any]) -> str:
    """Integrations x models. The table itself is made by the caller's `markdown`."""
    rows = data["rows"]
    at_peak = [r for r in rows if r["at_checkpointing"]]
    return (
        f"`{data['command']}` ({data['date']}, torch {data['torch']}; {data['machine']}). "
        f"{sum(r['good'] for r in rows)} of {len(rows)} rows end in the numbers of the loop "
        "without a plan, bit for bit, with every step planned and within the budget; the budget "
        f"of {len(at_peak)} of them is the peak of the framework's own checkpointing. Bytes are "
        "those of the largest step of one epoch, measured, all that the loop holds counted; "
        "steps a second are those of full batches, without planning. Small models on one thread: "
        "what Python does around a step weighs more than on a large one."
    )


HEADER = ["loop", "model", "lines", "no plan", "checkpointing", "budget", "measured",
          "equal", "un-planned steps", "steps/s: no plan", "checkpointing",
          "planned"]  # fmt: skip


def cells(data: dict[str, Any]) -> list[list[str]]:
    """The rows of the table."""
    found = []
    for row in data["rows"]:
        peaks, speeds = row["peaks"], row["speeds"]
        budget = row["budget_bytes"]
        found.append(
            [
                row["name"],
                row["model"],
                str(row["lines"]),
                gigabytes(peaks["plain"]),
                gigabytes(peaks["checkpointed"]),
                "no plan" if budget is None else gigabytes(budget),
                gigabytes(peaks["planned"]) if "planned" in peaks else "-",
                "yes" if row["equal"] else "NO",
                str(row["unplanned_calls"]),
                f"{speeds['plain']:.1f}",
                f"{speeds['checkpointed']:.1f}",
                f"{speeds['planned']:.1f}" if "planned" in speeds else "-",
            ]
        )
    return found
