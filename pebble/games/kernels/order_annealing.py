"""Compiled local search over topological orders, for boards beyond exact search."""

from __future__ import annotations

from math import exp
from typing import Any, NamedTuple

import numpy as np

from pebble.compiling import entry_with_arrays, inner
from pebble.games.kernels.order_costs import peak_of, transfers_of

PEAK, TRANSFERS = 0, 1
"""What an order is judged by."""


class Cooling(NamedTuple):
    """From which temperature to which, in so many rounds."""

    start: float
    end: float
    rounds: int


@inner
def judge(
    mode: int, order: Any, net: Any, position: Any, marks: Any, room: int, no_moves: Any
) -> Any:
    """The value of an order in one of the two games; lower is better."""
    size, extra, held, state, blue = marks
    for t in range(len(order)):
        position[order[t]] = t
    if mode == PEAK:
        return peak_of(order, net, position, size, extra, held)
    return transfers_of(order, net, position, state, held, blue[0] == 1, room, no_moves)


@inner
def window(v: int, order: Any, net: Any, position: Any) -> Any:
    """The first and the last place where v can stand; the places are written down on the way."""
    in_ptr, in_node, use_ptr, use_node = net
    low, high = 0, len(order) - 1
    for t in range(len(order)):
        position[order[t]] = t
    for j in range(in_ptr[v], in_ptr[v + 1]):
        low = max(low, position[in_node[j]] + 1)
    for j in range(use_ptr[v], use_ptr[v + 1]):
        high = min(high, position[use_node[j]] - 1)
    return low, high


@entry_with_arrays
def anneal_order(
    mode: int, order: Any, net: Any, marks: Any, room: int, cooling: Cooling, rng: Any
) -> Any:
    """Anneal an order by moving one node to another place of its window; the best one stays."""
    position, no_moves = np.full(len(marks[0]), -1, np.int64), np.zeros((0, 2), np.int64)
    trial, best = order.copy(), order.copy()
    value = judge(mode, order, net, position, marks, room, no_moves)
    lowest = value
    for k in range(cooling.rounds):
        temperature = cooling.start * (cooling.end / cooling.start) ** (k / cooling.rounds)
        i = rng.integers(0, len(order))
        v = order[i]
        low, high = window(v, order, net, position)
        if low == high:
            continue
        p = low + rng.integers(0, high - low + 1)
        if p == i:
            continue
        trial[:] = order
        if p > i:
            trial[i:p] = order[i + 1 : p + 1]
        else:
            trial[p + 1 : i + 1] = order[p:i]
        trial[p] = v
        new = judge(mode, trial, net, position, marks, room, no_moves)
        if new <= value or rng.random() < exp((value - new) / temperature):
            order[:] = trial
            value = new
            if value < lowest:
                lowest = value
                best[:] = order
    order[:] = best
    return lowest
