"""An explanation of a plan: its parts, and all of it in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pebble.formatting import Printed, count, duration, gigabytes, table
from pebble.plan.explained_parts import BudgetPrice, Change
from pebble.plan.module_shares import ModuleShare
from pebble.plan.peak_moment import OPTIMIZER_STEP, PeakMoment

_ROWS = 10
"""Modules that the table names."""


@dataclass(frozen=True, repr=False)
class Explanation(Printed):
    """Why a plan is as it is. Bytes are those of the whole step.

    Attributes
    ----------
    model : str
    budget_bytes : int
    overhead : float
        Extra compute of the plan, as a fraction.
    peak : PeakMoment
        What sets the peak.
    memory : mapping
        Bytes by kind at the peak.
    shares : tuple of ModuleShare
        What each module saves and computes again, and at which price.
    less, more : BudgetPrice
        The same step with a little less and a little more memory.
    changes : tuple of Change
        Other ways to train, each by itself with a plan of its own within the same budget.
    skipped : tuple of str
        Changes that there was no time for; all of them where the plan comes from a file.
    """

    model: str
    budget_bytes: int
    overhead: float
    peak: PeakMoment
    memory: dict[str, int]
    shares: tuple[ModuleShare, ...] = field(repr=False)
    less: BudgetPrice
    more: BudgetPrice
    changes: tuple[Change, ...]
    skipped: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it in words."""
        return _explanation_text(self)

    def __str__(self) -> str:
        return self.text


def _explanation_text(told: Explanation) -> str:
    """Peak, modules, prices and other ways, in this order."""
    parts = [
        f"{told.model} within {gigabytes(told.budget_bytes)}: "
        f"{100 * told.overhead:.2f} % more compute than without a plan",
        "\n".join(_peak_lines(told)),
        "\n".join(_share_lines(told.shares)),
        f"Memory is worth\n  {told.more}\n  {told.less}",
        "\n".join(_change_lines(told)),
    ]
    return "\n\n".join(part for part in parts if part)


def _peak_lines(told: Explanation) -> Iterator[str]:
    peak = told.peak
    if peak.phase == OPTIMIZER_STEP:
        yield f"The peak, {gigabytes(peak.peak_bytes)}, is that of the optimizer's step"
        yield "  no schedule of forward and backward changes it; a leaner optimizer does"
    else:
        where = f"{peak.kind} of {peak.module}" if peak.module else peak.kind
        again = ", computed again" if peak.again else ""
        yield f"The peak, {gigabytes(peak.peak_bytes)}, is in the {peak.phase}, at {where}{again}"
        if peak.source:
            yield f"  {peak.source}"
        own = f"  it reads, makes and takes {gigabytes(peak.own_bytes)}"
        if peak.workspace_bytes:
            own += f", {gigabytes(peak.workspace_bytes)} of it temporary"
        yield own
    listed = ", ".join(f"{gigabytes(size)} {kind}" for kind, size in told.memory.items() if size)
    yield f"  in memory then: {listed}"
    for held in peak.held:
        maker = f"{held.op} of {held.module}" if held.module else held.op
        yield f"  {gigabytes(held.size_bytes):>10} for later, {held.kind}: {maker}"


def _share_lines(shares: tuple[ModuleShare, ...]) -> Iterator[str]:
    header = ["saved for the backward", "no plan", "plan", "ops again", "paid / GB", "spared / GB"]
    rows = [
        [
            share.group if share.modules == 1 else f"{share.group} ({share.modules})",
            gigabytes(share.unplanned_bytes),
            gigabytes(share.saved_bytes),
            str(share.again),
            _price(share.paid_ns_per_gb if share.again else None),
            _price(share.spared_ns_per_gb),
        ]
        for share in shares[:_ROWS]
    ]
    yield table(header, rows)
    if len(shares) > _ROWS:
        yield f"and {count(len(shares) - _ROWS, 'smaller group')} of modules"
    yield from _why(shares)


def _why(shares: tuple[ModuleShare, ...]) -> Iterator[str]:
    freed = sum(share.freed_bytes for share in shares)
    paid = sum(share.again_ns for share in shares)
    if not paid:
        yield "Nothing is computed again: everything that the backward reads fits."
        return
    text = f"What is computed again frees {gigabytes(freed)} for {duration(paid)}"
    yield f"{text}, {duration(paid / max(freed, 1) * 1e9)} for each GB."
    free = sum(share.saved_bytes - share.fixed_bytes for share in shares)
    kept = sum(share.kept_ns for share in shares)
    if free:
        yield (
            f"What is saved though it could be computed again, {gigabytes(free)}, would take "
            f"{duration(kept / free * 1e9)} for each GB or more, as its inputs would be needed too."
        )
    fixed = sum(share.fixed_bytes for share in shares)
    if fixed:
        yield (
            f"{gigabytes(fixed)} of what is saved no plan can free: outputs of the step, and draws "
            "that may run only once."
        )


def _price(ns_per_gb: float | None) -> str:
    return "-" if ns_per_gb is None else duration(ns_per_gb)


def _change_lines(told: Explanation) -> Iterator[str]:
    if told.changes:
        header = ["by itself, within the same budget", "off the unplanned peak", "extra compute"]
        rows = [
            [
                change.name,
                ("about " if change.estimated else "") + gigabytes(change.saved_bytes),
                "no plan found" if change.overhead is None else f"{100 * change.overhead:.2f} %",
            ]
            for change in told.changes
        ]
        yield table(header, rows)
    if told.skipped:
        yield f"Not tried: {'; '.join(told.skipped)}."
