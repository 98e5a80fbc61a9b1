"""Deep networks as chains of blocks: optimal nested checkpointing, then the graph's own replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from pebble.graph import IntArray
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress, register
from pebble.solvers.chains.blocks import Blocks
from pebble.solvers.chains.persistent_table import NEVER, PersistentTable
from pebble.solvers.chains.player import unroll
from pebble.solvers.edits.incumbent import best_of
from pebble.solvers.edits.recompute_once import RecomputeOnce

MOST_BLOCKS = 72
OPS_PER_BLOCK = (48, 22, 11, 5)
"""Forward ops of a block, on average: finer blocks nest deeper, coarser ones choose better."""
FINEST = 24
"""Most blocks of the finest kind, which costs time and rarely wins on large graphs."""


@register(
    "chain",
    summary=(
        "dynamic program over the chain of blocks (after Rotor); blocks that are "
        "alike are solved once"
    ),
)
def chain(
    problem: Problem,
    *,
    time_limit: float = 60.0,
    report: Callable[[Progress], None] | None = None,
    slots: int = 500,
    options: int = 8,
    levels: int = 32,
) -> Answer:
    """Rotor's dynamic programme on blocks of the forward half, with options for each block.

    The forward half is cut where few bytes cross, into several numbers of blocks. A block is
    saved whole, computed again whole, or something between (minimum cuts at several prices); the
    programme nests checkpoints to any depth and is optimal among persistent schedules of the
    chain. One table holds the plans for all amounts of memory; `levels` of them are turned into
    schedules of the graph, the referee replays each and the cheapest that fits is the answer.
    Which plans are tried does not depend on the budget: a larger budget never costs more.

    Parameters
    ----------
    slots : int
        Units that memory is counted in.
    options : int
        Most options of a block.
    levels : int
        Most plans that are replayed for each number of blocks.
    """
    family = _family(problem, slots=slots, options=options, levels=levels)
    return best_of(problem, family, "chain", time_limit=time_limit, report=report)


def _family(problem: Problem, *, slots: int, options: int, levels: int) -> Iterator[Schedule]:
    yield Schedule.keep_all(problem.graph)
    if not problem.may_repeat.any():
        return
    recompute = RecomputeOnce(problem.graph)
    unit = max(-(-simulate(problem, Schedule.keep_all(problem.graph)).peak // slots), 1)
    seen: set[tuple[int, int]] = set()
    for count in block_counts(recompute.split + 1):
        blocks = Blocks.cut(problem, recompute, count, options=options)
        key = (len(blocks), int(blocks.block.sum()))
        if len(blocks) > 1 and key not in seen:
            seen.add(key)
            table = PersistentTable(blocks.chain(problem, unit), slots)
            for memory in _memories(table.times(), levels):
                yield unroll(blocks, table.actions(memory))


def block_counts(n: int) -> list[int]:
    """Numbers of blocks to try on n forward ops, fewest first.

    Examples
    --------
    >>> block_counts(100), block_counts(3000)
    ([2, 4, 9, 20], [62, 72])
    """
    counts = [min(n // ops, MOST_BLOCKS) for ops in OPS_PER_BLOCK[:-1]]
    finest = n // OPS_PER_BLOCK[-1]
    return sorted({c for c in (*counts, finest if finest <= FINEST else 0) if c > 1})


def _memories(times: IntArray, levels: int) -> list[int]:
    """Amounts of memory at which the plan changes, at most `levels` of them, most memory first."""
    fits = np.flatnonzero(times < NEVER)
    steps = [int(m) for k, m in enumerate(fits) if k == 0 or times[m] < times[m - 1]]
    if len(steps) > levels:
        picked = np.linspace(0, len(steps) - 1, levels).round().astype(int)
        steps = [steps[k] for k in picked]
    return steps[::-1]
