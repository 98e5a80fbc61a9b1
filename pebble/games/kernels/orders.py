"""Compiled local search over topological orders, for boards beyond exact search.

An order is judged by what it costs with a fixed rule for what to forget: a value goes when nothing
will read it; where room is short, the one that is read again last.
"""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np

from pebble.compiling import entry, entry_with_arrays, inner
from pebble.games.kernels.rules import LOAD, PLACE, REMOVE, STORE

PEAK, TRANSFERS = 0, 1
NEVER = 1 << 40
IMPOSSIBLE = 1 << 50


@inner
def next_use(v: int, at: int, use_ptr: Any, use_node: Any, position: Any) -> Any:
    """The first place after `at` where v is read."""
    found = NEVER
    for j in range(use_ptr[v], use_ptr[v + 1]):
        p = position[use_node[j]]
        if at < p < found:
            found = p
    return found


@inner
def peak_of(order: Any, net: Any, position: Any, size: Any, extra: Any, held: Any) -> Any:
    """Peak of a one-shot order, times the steps, plus the steps that reach it."""
    in_ptr, in_node, use_ptr, use_node = net
    live, peak, times = 0, 0, 0
    for t in range(len(order)):
        v = order[t]
        live += size[v]
        now = live + extra[v]
        if now > peak:
            peak, times = now, 0
        if now == peak:
            times += 1
        for j in range(in_ptr[v], in_ptr[v + 1]):
            u = in_node[j]
            if not held[u] and next_use(u, t, use_ptr, use_node, position) == NEVER:
                live -= size[u]
        if not held[v] and use_ptr[v] == use_ptr[v + 1]:
            live -= size[v]
    return peak * (len(order) + 1) + times


@entry
def transfers_of(
    order: Any,
    net: Any,
    position: Any,
    state: Any,
    target: Any,
    blue_inputs: bool,
    room: int,
    out: Any,
) -> Any:
    """Transfers of an order in the unweighted red-blue game; the moves go to `out` if it has rows.

    state[v]: 1 red, 2 blue. Eviction: the value read again last, where a value not yet in slow
    memory counts as read sooner, since it must be stored.
    """
    in_ptr, in_node, use_ptr, use_node = net
    n = len(state)
    used, cost, rows = 0, 0, 0
    for v in range(n):
        state[v] = 2 if blue_inputs and in_ptr[v] == in_ptr[v + 1] else 0
    for t in range(len(order)):
        v = order[t]
        missing = 1
        for j in range(in_ptr[v], in_ptr[v + 1]):
            if not state[in_node[j]] & 1:
                missing += 1
        while used + missing > room:
            worst, far, dirty = -1, -1, False
            for u in range(n):
                if not state[u] & 1:
                    continue
                needed = False
                for j in range(in_ptr[v], in_ptr[v + 1]):
                    needed = needed or in_node[j] == u
                if needed:
                    continue
                reach = 2 * (next_use(u, t, use_ptr, use_node, position) - t)
                unsaved = not state[u] & 2
                if unsaved and reach < NEVER:
                    reach = reach // 2
                if reach > far:
                    worst, far, dirty = u, reach, unsaved and reach < NEVER
            if worst < 0:
                return IMPOSSIBLE
            if dirty:
                state[worst] |= 2
                cost += 1
                if len(out):
                    out[rows, 0], out[rows, 1] = STORE, worst
                    rows += 1
            state[worst] &= 2
            used -= 1
            if len(out):
                out[rows, 0], out[rows, 1] = REMOVE, worst
                rows += 1
        for j in range(in_ptr[v], in_ptr[v + 1]):
            u = in_node[j]
            if not state[u] & 1:
                state[u] |= 1
                used += 1
                cost += 1
                if len(out):
                    out[rows, 0], out[rows, 1] = LOAD, u
                    rows += 1
        state[v] |= 1
        used += 1
        if len(out):
            out[rows, 0], out[rows, 1] = PLACE, v
            rows += 1
        if target[v]:
            state[v] |= 2
            cost += 1
            if len(out):
                out[rows, 0], out[rows, 1] = STORE, v
                rows += 1
        for j in range(in_ptr[v], in_ptr[v + 1] + 1):
            u = v if j == in_ptr[v + 1] else in_node[j]
            if state[u] & 1 and next_use(u, t, use_ptr, use_node, position) == NEVER:
                state[u] &= 2
                used -= 1
                if len(out):
                    out[rows, 0], out[rows, 1] = REMOVE, u
                    rows += 1
    if len(out):
        out[rows, 0] = -1
    return cost


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


@entry_with_arrays
def anneal_order(
    mode: int,
    order: Any,
    net: Any,
    marks: Any,
    room: int,
    heat: float,
    cool: float,
    rounds: int,
    rng: Any,
) -> Any:
    """Anneal an order by moving one node to another place of its window; the best one stays."""
    in_ptr, in_node, use_ptr, use_node = net
    n = len(order)
    position, no_moves = np.full(len(marks[0]), -1, np.int64), np.zeros((0, 2), np.int64)
    trial, best = order.copy(), order.copy()
    value = judge(mode, order, net, position, marks, room, no_moves)
    lowest = value
    for k in range(rounds):
        temperature = heat * (cool / heat) ** (k / rounds)
        i = rng.integers(0, n)
        v = order[i]
        low, high = 0, n - 1
        for t in range(n):
            position[order[t]] = t
        for j in range(in_ptr[v], in_ptr[v + 1]):
            low = max(low, position[in_node[j]] + 1)
        for j in range(use_ptr[v], use_ptr[v + 1]):
            high = min(high, position[use_node[j]] - 1)
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
