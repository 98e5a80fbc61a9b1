"""The loop that cools: trials, accepted or taken back, between two looks at the clock."""

from __future__ import annotations

from math import log
from typing import Any, NamedTuple

from pebble.compiling import entry, inner
from pebble.solvers.annealing.kernels.board import (
    BEST,
    BEST_PEAK,
    COST,
    EXCESS,
    FOUND,
    LOG,
    UNSAVED,
)
from pebble.solvers.annealing.kernels.layout import record, record_peak, spread
from pebble.solvers.annealing.kernels.profile import set_budget
from pebble.solvers.annealing.kernels.randomness import below, uniform
from pebble.solvers.annealing.kernels.trials import try_add, try_move, try_remove
from pebble.solvers.annealing.kernels.undo import take_back

SPREAD_EVERY = 1 << 17
"""Trials between two even spreads of the executions over the slots."""
_NO_LIMIT = 2.0**61


class Course(NamedTuple):
    """What a cooling run of many chunks goes by.

    Attributes
    ----------
    total : int
        Trials of the whole run.
    heat : float array, shape (2,)
        Temperature at the start and at the end; it falls geometrically.
    weights : float array, shape (2,)
        What one unit of cost and one byte of excess weigh. In the second half of the run the
        price of excess is adjusted, so that the search ends at the edge of the budget.
    mix : int array, shape (3,)
        Chances, of 256: of an add, of a remove, and of a chain link in an add.
    drop : float
        Above 0, the peak is what is to be least: whenever the budget is met, it becomes the peak
        less this fraction.
    """

    total: Any
    heat: Any
    weights: Any
    mix: Any
    drop: Any


@inner
def _adjust(weights, share):  # type: ignore[no-untyped-def]
    """Raise the price of excess while the budget is never met, lower it while it is met often."""
    if share == 0.0:
        weights[1] *= 1.08
    elif share > 0.4:
        weights[1] *= 0.95


@inner
def _attempt(net, board, warmth, weights, mix):  # type: ignore[no-untyped-def]
    """One trial; whether it was made and accepted. What it did is in the log."""
    number = board.number
    cost, excess = number[COST], number[EXCESS]
    number[LOG] = 0
    kind = below(board, 256)
    allowed = -warmth * log(uniform(board))
    if kind < mix[0]:
        spare = (allowed + weights[1] * excess) / weights[0]  # excess does not fall below 0
        made = try_add(net, board, mix[2], cost + int(min(spare, _NO_LIMIT)))
    elif kind < mix[0] + mix[1]:
        made = try_remove(net, board)
    else:
        made = try_move(net, board)
    if not made:
        return False
    more = weights[0] * (number[COST] - cost) + weights[1] * (number[EXCESS] - excess)
    if more > allowed:
        take_back(net, board)
        return False
    return True


@entry
def anneal_chunk(net, board, first, last, course):  # type: ignore[no-untyped-def]
    """Run the trials `first` to `last` of a cooling run."""
    total, heat, weights, mix, drop = course
    number = board.number
    fall = log(heat[1] / heat[0])
    warmth = heat[0]
    block = max(total // 512, 512)
    within = 0
    for trial in range(first, last):
        if trial & 255 == 0:
            warmth = heat[0] * 2.718281828459045 ** (fall * trial / total)
        if trial % block == block - 1:
            if 2 * trial > total:
                _adjust(weights, within / block)
            within = 0
        within += number[EXCESS] == 0
        if trial & (SPREAD_EVERY - 1) == SPREAD_EVERY - 1:
            spread(net, board)
        state = board.random[0]
        if not _attempt(net, board, warmth, weights, mix):
            continue
        better = number[EXCESS] == 0 and (number[COST] < number[BEST] or number[FOUND] == 0)
        if drop > 0.0 and number[EXCESS] == 0:
            record_peak(board)
            lower = max(1, int(number[BEST_PEAK] * drop))
            set_budget(board, number[BEST_PEAK] - lower)
        elif better:
            number[BEST], number[FOUND], number[UNSAVED] = number[COST], 1, 1
        elif number[UNSAVED] and (number[EXCESS] > 0 or number[COST] > number[BEST]):
            # This step leaves the best: back, keep it, and again.
            take_back(net, board)
            record(board)
            board.random[0] = state
            _attempt(net, board, warmth, weights, mix)
        number[LOG] = 0
    if number[UNSAVED]:
        record(board)
