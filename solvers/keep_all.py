"""One end of the trade-off: keep everything."""

from __future__ import annotations

from pebble.problem import Problem
from pebble.schedule import Schedule
from pebble.solver import Answer, register


@register(
    "keep_all",
    summary="one end: every op once",
)
def keep_all(problem: Problem) -> Answer:
    """Every op once, in the reference order: the un-planned step."""
    return Answer(Schedule.keep_all(problem.graph))
