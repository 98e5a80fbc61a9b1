"""Equal segments of the forward half, each computed again for its backward (Chen et al., 2016)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from pebble.graph import Graph, IntArray
from pebble.problem import Problem
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress, register
from pebble.solvers.candidates import best_of
from pebble.solvers.once import RecomputeOnce, crossing_bytes

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
    crosses every layer), so a border is the position of the forward half with the fewest bytes
    crossing it, within an equal share of the bytes made. On a chain these are the articulation
    points. The family of schedules does not depend on the budget: a larger budget never costs
    more.
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
    """Last op of each of `count` segments but the final one: least crossing in its window.

    Windows are equal shares of the bytes that the forward half makes, each centred on the border
    of an equal share.
    """
    a, last = graph.arrays, len(crossing) - 1
    made = np.add.reduceat(np.append(a.size[a.out_val], 0), a.out_ptr[: last + 1])
    made[np.diff(a.out_ptr)[: last + 1] == 0] = 0
    at = np.cumsum(made)
    total = float(at[-1]) if len(at) else 0.0
    borders = []
    for k in range(1, count):
        low = int(np.searchsorted(at, total * (k - 0.5) / count))
        high = min(int(np.searchsorted(at, total * (k + 0.5) / count, side="right")), last)
        if low < high:
            window = crossing[low:high]
            best = np.flatnonzero(window == window.min()) + low
            middle = np.searchsorted(at, total * k / count)
            borders.append(int(best[np.abs(best - middle).argmin()]))
    return tuple(sorted(set(borders)))


def crossers(recompute: RecomputeOnce, borders: tuple[int, ...]) -> NDArray[np.bool_]:
    """Ops with a result that crosses a border within the forward half, shape (n_ops,)."""
    n, split = len(recompute.graph.ops), recompute.split
    position = np.arange(n)
    next_border = np.append(np.array(borders, np.int64), n)[np.searchsorted(borders, position)]
    return (next_border < np.array(recompute.gone)) & (position <= split)
