"""Cheap plans by price: what to recompute at a price for memory, and evicting runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from pebble.graph import IntArray
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress, register
from pebble.solvers.edits.borders import choose_borders, crossers
from pebble.solvers.edits.eviction import EvictingRun
from pebble.solvers.edits.halves import crossing_bytes
from pebble.solvers.edits.incumbent import best_of
from pebble.solvers.edits.minimum_cuts import BoolArray, MemoryPrice, PricedChoice
from pebble.solvers.edits.recompute_once import RecomputeOnce

WORK = 150_000
"""Steps replayed for the first family, which sets its size: about 0.4 s."""
EVICTING_WORK = 3_000
"""Steps of evicting runs, about 0.1 ms each."""


@register(
    "greedy",
    summary=("heuristic: prices of memory and evicting runs; never worse with a larger budget"),
)
def greedy(
    problem: Problem,
    *,
    time_limit: float = 60.0,
    report: Callable[[Progress], None] | None = None,
) -> Answer:
    """The cheapest that fits of two families of schedules.

    The first recomputes each op at most once. Memory has a price; a minimum cut weighs the time
    of recomputing against the price of saving, within segments between saved borders (see
    `sqrt`). All prices that matter, mixtures of neighbours and several segment counts make a
    family from keep-all to lean. The second runs the
    reference order under a memory limit and evicts what is cheap to have again for its bytes
    (see `EvictingRun`), for several limits between the largest working set and the keep-all
    peak.

    Neither family depends on the budget, so a larger budget never costs more.
    """
    schedules = family(problem)
    return best_of(problem, schedules, "greedy", time_limit=time_limit, report=report)


def family(problem: Problem) -> Iterator[Schedule]:
    """Keep-all, then both families, in an order that does not depend on the budget."""
    yield Schedule.keep_all(problem.graph)
    if not problem.may_repeat.any():
        return
    n = len(problem.graph.ops)
    recompute = RecomputeOnce(problem.graph)
    yield from _priced(problem, recompute, int(np.clip(WORK / n, 24, 400)))
    yield from _evicting(problem, int(np.clip(EVICTING_WORK / n, 2, 16)))


def _priced(problem: Problem, recompute: RecomputeOnce, members: int) -> Iterator[Schedule]:
    """Half of the members for the whole graph as one segment, half for all other counts."""
    network = MemoryPrice(recompute, problem.may_repeat)
    crossing = crossing_bytes(problem.graph, recompute.split)
    seen: set[bytes] = set()
    counts = _counts(recompute.split + 1, int(np.clip(members // 8, 4, 16)))
    for count in counts:
        keep = crossers(recompute, choose_borders(problem.graph, crossing, count))
        share = members // 2 if count == 1 else members // (2 * len(counts))
        curve = network.frontier(keep, int(np.clip(share // 2, 3, 16)))
        for again in _between(curve, max(share // len(curve), 1)):
            if again.tobytes() not in seen:
                seen.add(again.tobytes())
                yield recompute.schedule(again.tolist())


def _between(curve: list[PricedChoice], steps: int) -> Iterator[BoolArray]:
    """Each choice, and `steps` - 1 mixtures of it with the next.

    A mixture pays the higher price in the first part of the forward half: those ops are computed
    again last, when the backward half has freed most of what was saved.
    """
    for low, high in pairwise(curve):
        differ = np.flatnonzero(low.again != high.again)
        for k in range(steps):
            again = low.again.copy()
            early = differ[: len(differ) * k // steps]
            again[early] = high.again[early]
            yield again
    yield curve[-1].again


def _counts(n: int, most: int) -> list[int]:
    """Segment counts from 1 to n / 2, small ones all, larger ones in growing steps."""
    return sorted({round(c) for c in np.geomspace(1, max(n / 2, 1), most)})


def _evicting(problem: Problem, levels: int) -> Iterator[Schedule]:
    graph = problem.graph
    least = problem.working_set_bound
    most = simulate(problem, Schedule.keep_all(graph)).peak
    run = EvictingRun(problem)
    for limit in _limits(least, most, levels).tolist():
        schedule = run.schedule(limit, most_steps=3 * len(graph.ops) + 50)
        if schedule is not None:
            yield schedule


def _limits(least: int, most: int, levels: int) -> IntArray:
    shares = np.linspace(0.0, 1.0, levels + 1)[:-1]
    return np.unique((least + shares * (most - least)).astype(np.int64))[::-1]
