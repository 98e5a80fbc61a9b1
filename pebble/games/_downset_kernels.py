"""Compiled search over downsets for one-shot games: what is computed decides what is pebbled.

The least peak is a bottleneck shortest path. A placement after which no more is on the board than
before, and that fits below the peak so far, is made at once: it never hurts a continuation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pebble.games._search_kernels import (
    BOUND,
    EXHAUSTED,
    EXPANDED,
    FOUND,
    FULL,
    GOAL,
    HEAP,
    ONE,
    RUNNING,
    STATES,
    ZERO,
    compiled,
    lowest,
    pop,
    push,
    slot_of,
    total,
)


@compiled
def live_weight(done: Any, t: Any, held: Any) -> Any:
    """Weight of what a downset must keep: values still to be read, and held targets."""
    live = 0
    todo = done
    while todo != ZERO:
        v = lowest(todo)
        todo &= todo - ONE
        if t.succs[v] & ~done != ZERO or held & (ONE << np.uint64(v)) != ZERO:
            live += t.size[v]
    return live


@compiled
def placement(v: int, done: Any, live: int, t: Any, held: Any, slide: int) -> Any:
    """(weight while v is placed, weight afterwards)."""
    bit = ONE << np.uint64(v)
    after = done | bit
    dying, largest = 0, -1
    todo = t.preds[v]
    while todo != ZERO:
        u = lowest(todo)
        todo &= todo - ONE
        if t.succs[u] & ~after == ZERO and held & (ONE << np.uint64(u)) == ZERO:
            dying += t.size[u]
            largest = max(largest, t.size[u])
    peak = live + t.size[v] + t.extra[v]
    if slide and largest >= 0:
        peak = max(live, live + t.size[v] - largest)
    kept = t.size[v] if t.succs[v] != ZERO or held & bit != ZERO else 0
    return peak, live - dying + kept


@compiled
def advance_downsets(
    t: Any, n: int, held: Any, slide: int, cap: int, store: Any, counters: Any, limit: int
) -> Any:
    """Expand up to `limit` downsets, those of the lowest peak first."""
    everything = ~ZERO if n == 64 else (ONE << np.uint64(n)) - ONE
    for _ in range(limit):
        if counters[HEAP] == 0:
            return EXHAUSTED
        room = len(store.a) - counters[STATES]
        if room < n + 1 or len(store.heap_f) - counters[HEAP] < n + 1:
            return FULL
        i = pop(store, counters)
        if store.closed[i]:
            continue
        store.closed[i] = 1
        done, peak = store.a[i], store.g[i]
        counters[BOUND] = max(counters[BOUND], peak)
        if done == everything:
            counters[GOAL] = i
            return FOUND
        counters[EXPANDED] += 1
        left = total(everything & ~done, t.one) - 1
        live = live_weight(done, t, held)
        safe = -1
        for v in range(n):
            if done & (ONE << np.uint64(v)) == ZERO and t.preds[v] & ~done == ZERO:
                during, after = placement(v, done, live, t, held, slide)
                if during <= peak and after <= live:
                    safe = v
                    break
        for v in range(n):
            bit = ONE << np.uint64(v)
            if done & bit != ZERO or t.preds[v] & ~done != ZERO or (safe >= 0 and v != safe):
                continue
            during, _ = placement(v, done, live, t, held, slide)
            new = max(peak, during)
            if new > cap:
                continue
            slot = slot_of(store, done | bit, ZERO, ZERO)
            j = store.table[slot]
            if j < 0:
                j = counters[STATES]
                counters[STATES] += 1
                store.table[slot] = j
                store.a[j] = done | bit
            elif new >= store.g[j]:
                continue
            store.closed[j] = 0
            store.g[j], store.parent[j], store.move[j] = new, i, v
            push(store, counters, new, left, j)
    return RUNNING
