"""Equal segments of the forward half, each computed again for its backward (Chen et al., 2016)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from pebble.problem import Problem
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress, register
from pebble.solvers.edits.borders import choose_borders, crossers
from pebble.solvers.edits.halves import crossing_bytes
from pebble.solvers.edits.incumbent import best_of
from pebble.solvers.edits.recompute_once import RecomputeOnce

MOST_COUNTS = 48
"""So many segment counts are tried; all of them where there are no more."""


@register(
    "sqrt",
    summary="heuristic: equal segments (Chen et al.); never worse with a larger budget",
)
def sqrt(
    problem: Problem,
    *,
    time_limit: float = 60.0,
    report: Callable[[Progress], None] | None = None,
) -> Answer:
    """Save what crosses the borders of k segments, for every k; the cheapest that fits.

    "Training deep nets with sublinear memory cost" (arXiv 1604.06174) cuts a chain at about
    sqrt(n) of its articulation points. Real graphs have few true ones (a mask or a rotary table
    crosses every layer), so a border is a position of the forward half that fewer bytes cross
    than any other nearby. On a chain these are the articulation points. The
    family of schedules does not depend on the budget: a larger budget never costs more.
    """
    family = segmented(problem)
    return best_of(problem, family, "sqrt", time_limit=time_limit, report=report)


def segmented(problem: Problem) -> Iterator[Schedule]:
    """Keep-all, then one schedule for each segment count, fewest segments first."""
    graph = problem.graph
    yield Schedule.keep_all(graph)
    recompute = RecomputeOnce(graph)
    may_repeat = problem.may_repeat
    if not may_repeat.any():
        return
    last = recompute.split
    crossing = crossing_bytes(graph, last)
    seen = set()
    for count in segment_counts(last):
        borders = choose_borders(graph, crossing, count)
        if borders not in seen:
            seen.add(borders)
            again = may_repeat & ~crossers(recompute, borders)
            yield recompute.schedule(again.tolist())


def segment_counts(last: int) -> list[int]:
    """1, 2, 3, ... up to the number of ops, thinned out geometrically where there are many."""
    if last + 1 <= MOST_COUNTS:
        return list(range(1, last + 2))
    return sorted({round(c) for c in np.geomspace(1, (last + 1) / 2, MOST_COUNTS)})
