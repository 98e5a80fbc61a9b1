"""Why a module-level plan is as it is, from what was measured when it was made."""

from __future__ import annotations

from collections.abc import Iterable

from pebble.block_calls import BlockCall, CallWeight
from pebble.plan.module_explanation import BlockShare, ModuleExplanation
from pebble.plan.module_plan import ModulePlan


def explain_modules(plan: ModulePlan) -> ModuleExplanation:
    """Why a module-level plan is as it is; nothing is run for it."""
    chosen = set(plan.chosen)
    worth = [weight for weight in plan.calls if weight.saved_bytes > 0]
    again = [weight for weight in worth if weight.at in chosen]
    others = [weight for weight in worth if weight.at not in chosen]
    return ModuleExplanation(
        model=plan.record.model,
        reason=plan.reason,
        budget_bytes=plan.budget_bytes,
        peak_bytes=plan.peak_bytes,
        baseline_peak_bytes=plan.baseline_peak_bytes,
        overhead=plan.overhead,
        memory=plan.memory,
        shares=_shares(plan.calls, chosen),
        dearest=max(again, key=_ns_per_byte, default=None),
        next=min(others, key=_ns_per_byte, default=None),
    )


def _ns_per_byte(weight: CallWeight) -> float:
    return weight.cost / weight.saved_bytes


def _shares(calls: Iterable[CallWeight], chosen: set[BlockCall]) -> tuple[BlockShare, ...]:
    by_block: dict[str, list[CallWeight]] = {}
    for weight in calls:
        by_block.setdefault(weight.at.block, []).append(weight)
    shares = []
    for block, mine in by_block.items():
        again = [weight for weight in mine if weight.at in chosen]
        freed = sum(weight.saved_bytes for weight in again)
        shares.append(
            BlockShare(
                block=block,
                calls=len(mine),
                again=len(again),
                held_bytes=sum(weight.saved_bytes for weight in mine) - freed,
                freed_bytes=freed,
                again_ns=sum(weight.cost for weight in again),
            )
        )
    return tuple(sorted(shares, key=lambda share: -(share.held_bytes + share.freed_bytes)))
