"""Equal segments of the forward half, each computed again for its backward (Chen et al., 2016)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from pebble.graph import Graph, IntArray
from pebble.problem import Problem
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress, register
from pebble.solvers.edits.incumbent import best_of
from pebble.solvers.edits.recompute_once import RecomputeOnce, crossing_bytes

MOST_COUNTS = 48
"""So many segment counts are tried; all of them where there are no more."""


@register("sqrt")
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


def choose_borders(graph: Graph, crossing: IntArray, count: int) -> tuple[int, ...]:
    """Last ops of about `count` segments but the final one, where few bytes cross.

    Positions are taken by the bytes that cross them, fewest first, unless one is taken already
    within 3/4 of an equal share of the bytes that the forward half makes. In a network of
    repeated layers that is the same position in each.
    """
    a, last = graph.arrays, len(crossing) - 1
    made = np.diff(np.concatenate(([0], np.cumsum(a.size[a.out_val])))[a.out_ptr])
    at = np.cumsum(made[: last + 1]).tolist()
    if count < 2 or not at or not at[-1]:
        return ()
    apart = 0.75 * at[-1] / count
    taken: list[float] = [0.0, float(at[-1])]
    borders = []
    for p in np.argsort(crossing[:last], kind="stable").tolist():
        k = bisect_left(taken, at[p])
        if at[p] - taken[k - 1] >= apart and taken[k] - at[p] >= apart:
            taken.insert(k, at[p])
            borders.append(p)
    return tuple(sorted(borders))


def crossers(recompute: RecomputeOnce, borders: tuple[int, ...]) -> NDArray[np.bool_]:
    """Ops with a result that crosses a border within the forward half, shape (n_ops,)."""
    n, split = len(recompute.graph.ops), recompute.split
    position = np.arange(n)
    next_border = np.append(np.array(borders, np.int64), n)[np.searchsorted(borders, position)]
    return (next_border < np.array(recompute.gone)) & (position <= split)
