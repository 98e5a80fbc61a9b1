"""The other end of the trade-off: keep nothing that can be computed again."""

from __future__ import annotations

from pebble.problem import Problem
from pebble.solver import Answer, register
from pebble.solvers.edits.recompute_once import RecomputeOnce


@register(
    "recompute_all",
    summary="the other end: whatever may be computed again is",
)
def recompute_all(problem: Problem) -> Answer:
    """Save only what may not be computed again; compute the rest once more when it is needed.

    Every recomputable op of the forward half runs a second time, before its first use in the
    backward half. Cost is at most twice that of the forward half plus the backward half. It is
    an end of the table, not the least peak: one long recomputation holds much at once.
    """
    return Answer(RecomputeOnce(problem.graph).schedule(problem.may_repeat.tolist()))
