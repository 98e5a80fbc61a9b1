"""The section of benchmarks/README.md on several ranks."""

from __future__ import annotations

from typing import Any

from pebble.formatting import gigabytes

HEADER = ["way", "no plan", "budget", "predicted", "measured", "collectives", "no plan's",
          "equal", "to one process"]  # fmt: skip


def distributed(data: dict[str, Any]) -> str:
    """What the table shows. The table itself is made by the caller's `markdown`."""
    rows = data["rows"]
    return (
        f"`{data['command']}` ({data['date']}, torch {data['torch']}; {data['machine']}). Five "
        "steps of SGD on two gloo ranks. "
        f"{sum(r['good'] for r in rows)} of {len(rows)} rows have the parameters of the run "
        "without a plan, bit for bit, as many collectives, and a measured peak on each rank below "
        "the predicted one; to one process on the joined batches: the largest difference, of the "
        "largest entry. Bytes are those of a rank: buckets, shards, gathered parameters and "
        "activations."
    )


def cells(data: dict[str, Any]) -> list[list[str]]:
    """The rows of the table."""
    sizes = ("plain_bytes", "budget_bytes", "predicted_bytes", "measured_bytes")
    return [
        [
            row["name"],
            *(gigabytes(row[size]) for size in sizes),
            str(row["collectives"]),
            str(row["plain_collectives"]),
            "yes" if row["equal"] else "NO",
            f"{row['joined']:.0e}",
        ]
        for row in data["rows"]
    ]
