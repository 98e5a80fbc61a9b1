"""Compiled: what an order costs in which every node is computed once.

The rule for what to forget is fixed: a value goes when nothing will read it; where room is short,
the one that is read again last.
"""

from __future__ import annotations

from typing import Any

from pebble.compiling import entry, inner
from pebble.games.kernels.tables import LOAD, PLACE, REMOVE, STORE

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


@inner
def noted(out: Any, rows: int, act: int, node: int) -> Any:
    """Write a move where the moves are wanted; returns the next free row."""
    if len(out):
        out[rows, 0], out[rows, 1] = act, node
    return rows + 1


@inner
def evicted(v: int, at: int, net: Any, position: Any, state: Any) -> Any:
    """What leaves fast memory so that v can be computed (-1: nothing can), and whether stored.

    It is the value read again last, where one not yet in slow memory counts as read sooner.
    """
    in_ptr, in_node, use_ptr, use_node = net
    worst, far, dirty = -1, -1, False
    for u in range(len(state)):
        if not state[u] & 1:
            continue
        needed = False
        for j in range(in_ptr[v], in_ptr[v + 1]):
            needed = needed or in_node[j] == u
        if needed:
            continue
        reach = 2 * (next_use(u, at, use_ptr, use_node, position) - at)
        unsaved = not state[u] & 2
        if unsaved and reach < NEVER:
            reach = reach // 2
        if reach > far:
            worst, far, dirty = u, reach, unsaved and reach < NEVER
    return worst, dirty


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

    state[v]: 1 red, 2 blue. What leaves for lack of room is stored first if it is read again.
    """
    in_ptr, in_node, use_ptr, use_node = net
    used, cost, rows = 0, 0, 0
    for v in range(len(state)):
        state[v] = 2 if blue_inputs and in_ptr[v] == in_ptr[v + 1] else 0
    for t in range(len(order)):
        v = order[t]
        missing = 1
        for j in range(in_ptr[v], in_ptr[v + 1]):
            if not state[in_node[j]] & 1:
                missing += 1
        while used + missing > room:
            worst, dirty = evicted(v, t, net, position, state)
            if worst < 0:
                return IMPOSSIBLE
            if dirty:
                state[worst] |= 2
                cost += 1
                rows = noted(out, rows, STORE, worst)
            state[worst] &= 2
            used -= 1
            rows = noted(out, rows, REMOVE, worst)
        for j in range(in_ptr[v], in_ptr[v + 1]):
            u = in_node[j]
            if not state[u] & 1:
                state[u] |= 1
                used += 1
                cost += 1
                rows = noted(out, rows, LOAD, u)
        state[v] |= 1
        used += 1
        rows = noted(out, rows, PLACE, v)
        if target[v]:
            state[v] |= 2
            cost += 1
            rows = noted(out, rows, STORE, v)
        for j in range(in_ptr[v], in_ptr[v + 1] + 1):
            u = v if j == in_ptr[v + 1] else in_node[j]
            if state[u] & 1 and next_use(u, t, use_ptr, use_node, position) == NEVER:
                state[u] &= 2
                used -= 1
                rows = noted(out, rows, REMOVE, u)
    if len(out):
        out[rows, 0] = -1
    return cost
