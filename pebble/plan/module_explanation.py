"""An explanation of a module-level plan: what each block keeps, and what it takes to run again."""

from __future__ import annotations

from dataclasses import dataclass

from pebble.block_calls import CallWeight
from pebble.formatting import Printed, count, duration, gigabytes, table

_ROWS = 12
"""Blocks that the table names."""


@dataclass(frozen=True)
class BlockShare:
    """What the calls of a block weigh, all of them together.

    Attributes
    ----------
    block : str
    calls, again : int
        How many there are in a step, and how many of them run again.
    held_bytes : int
        What those that keep everything hold until the backward, beyond their inputs.
    freed_bytes, again_ns : int
        What those that run again do not hold, and the time that they take.
    """

    block: str
    calls: int
    again: int
    held_bytes: int
    freed_bytes: int
    again_ns: int


@dataclass(frozen=True, repr=False)
class ModuleExplanation(Printed):
    """Why a module-level plan is as it is. Bytes and times were measured.

    Attributes
    ----------
    model, reason : str
        `reason`: why there is no graph, and so no op that could be named.
    budget_bytes, peak_bytes, baseline_peak_bytes : int
        Of the whole step: allowed, with the plan, and without one.
    overhead : float
        Extra compute of the plan, as a fraction.
    memory : mapping
        Bytes by kind at the peak.
    shares : tuple of BlockShare
        Those that hold or free most first.
    dearest : CallWeight or None
        Of the calls that run again the one that costs most for its bytes.
    next : CallWeight or None
        Of the others the one that would cost least for its bytes.
    """

    model: str
    reason: str
    budget_bytes: int
    peak_bytes: int
    baseline_peak_bytes: int
    overhead: float
    memory: dict[str, int]
    shares: tuple[BlockShare, ...]
    dearest: CallWeight | None
    next: CallWeight | None

    def __str__(self) -> str:
        return "\n\n".join(part for part in (_head(self), _table(self), _prices(self)) if part)


def _head(told: ModuleExplanation) -> str:
    parts = ", ".join(f"{gigabytes(size)} {kind}" for kind, size in told.memory.items() if size)
    return (
        f"{told.model} within {gigabytes(told.budget_bytes)}, planned module by module: "
        f"{100 * told.overhead:.2f} % more compute than without a plan\n"
        f"The peak is {gigabytes(told.peak_bytes)}, and {gigabytes(told.baseline_peak_bytes)} "
        f"without a plan\n  in memory then: {parts}\n"
        f"  which op sets it is not known, as there is no graph: {told.reason}"
    )


def _table(told: ModuleExplanation) -> str:
    header = ["block", "calls", "again", "held", "freed", "time of these"]
    rows = [
        [
            share.block, str(share.calls), str(share.again), gigabytes(share.held_bytes),
            gigabytes(share.freed_bytes), duration(share.again_ns) if share.again else "-",
        ]
        for share in told.shares[:_ROWS]
    ]  # fmt: skip
    text = table(header, rows) if rows else ""
    more = len(told.shares) - _ROWS
    return f"{text}\nand {count(more, 'smaller block')}" if more > 0 else text


def _prices(told: ModuleExplanation) -> str:
    lines = []
    if told.dearest is None:
        lines.append("Nothing runs again: everything that the backward reads fits.")
    else:
        size, time = gigabytes(told.dearest.saved_bytes), duration(told.dearest.cost)
        lines.append(f"With about {size} more, {told.dearest.at.block} need not run again: {time}.")
    if told.next is not None:
        size, time = gigabytes(told.next.saved_bytes), duration(told.next.cost)
        lines.append(f"The next {size} less would take {time}: {told.next.at.block} once more.")
    return "\n".join(lines)
