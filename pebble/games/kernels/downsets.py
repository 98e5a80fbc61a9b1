"""Compiled search over downsets: orders in which every node is computed once.

What is computed decides what is alive. The worst moment of an order is a bottleneck, so this is a
shortest path where lengths are maxima. A placement after which no more is alive than before, and
that costs no more than the worst so far, is made at once: it never hurts a continuation.
Downsets that differ by an automorphism of the board count as one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pebble.compiling import entry, inner
from pebble.games.kernels.store import (
    BOUND,
    EXHAUSTED,
    EXPANDED,
    FOUND,
    FULL,
    GOAL,
    HEAP,
    RUNNING,
    has_room,
    pop,
    push,
    reach,
)
from pebble.games.kernels.words import ONE, ZERO, canonical, lowest, total

SLIDE, TRAFFIC, ROOM, LOAD, SPILL = range(5)
"""Indices into the rules: sliding; or transfers with room for so many, and what it costs to bring
back an input, and to store and bring back a computed value."""


@inner
def live_weight(done: Any, t: Any, held: Any) -> Any:
    """Weight of what a downset keeps alive, and how many of these lie in no slow memory.

    Alive are the values still to be read, and the held targets.
    """
    live, computed = 0, 0
    todo = done
    while todo != ZERO:
        v = lowest(todo)
        bit = ONE << np.uint64(v)
        todo &= todo - ONE
        if t.succs[v] & ~done != ZERO or held & bit != ZERO:
            live += t.size[v]
            computed += t.masks[1] & bit == ZERO
    return live, computed


@inner
def placement(v: int, done: Any, live: int, computed: int, t: Any, held: Any, rules: Any) -> Any:
    """(price of the moment when v is placed, alive afterwards, computed of those)."""
    bit = ONE << np.uint64(v)
    after = done | bit
    dying, largest, lost = 0, -1, 0
    todo = t.preds[v]
    while todo != ZERO:
        u = lowest(todo)
        own = ONE << np.uint64(u)
        todo &= todo - ONE
        if t.succs[u] & ~after == ZERO and held & own == ZERO:
            dying += t.size[u]
            largest = max(largest, t.size[u])
            lost += t.masks[1] & own == ZERO
    price = live + t.size[v] + t.extra[v]
    if rules[SLIDE] and largest >= 0:
        price = max(live, live + t.size[v] - largest)
    kept = t.succs[v] != ZERO or held & bit != ZERO
    if rules[TRAFFIC]:
        inputs = live - computed - total(t.preds[v] & t.masks[1], t.one)
        away = max(0, price - rules[ROOM])
        cheap = min(away, inputs)
        price = rules[LOAD] * cheap + rules[SPILL] * (away - cheap)
    new = kept and t.masks[1] & bit == ZERO
    return price, live - dying + (t.size[v] if kept else 0), computed - lost + new


@entry
def advance_downsets(
    t: Any,
    n: int,
    held: Any,
    rules: Any,
    cap: int,
    images: Any,
    store: Any,
    limit: int,
) -> Any:
    """Expand up to `limit` downsets, those of the lowest price first."""
    everything = ~ZERO if n == 64 else (ONE << np.uint64(n)) - ONE
    for _ in range(limit):
        if store.counters[HEAP] == 0:
            return EXHAUSTED
        if not has_room(store, n + 1):
            return FULL
        i = pop(store)
        if store.closed[i]:
            continue
        store.closed[i] = 1
        done, worst = store.a[i], store.g[i]
        store.counters[BOUND] = max(store.counters[BOUND], worst)
        if done == everything:
            store.counters[GOAL] = i
            return FOUND
        store.counters[EXPANDED] += 1
        left = total(everything & ~done, t.one) - 1
        live, computed = live_weight(done, t, held)
        safe = -1
        for v in range(n):
            if done & (ONE << np.uint64(v)) == ZERO and t.preds[v] & ~done == ZERO:
                price, alive, kept = placement(v, done, live, computed, t, held, rules)
                easier = alive <= live and (kept <= computed or not rules[TRAFFIC])
                if price <= worst and easier:
                    safe = v
                    break
        for v in range(n):
            bit = ONE << np.uint64(v)
            if done & bit != ZERO or t.preds[v] & ~done != ZERO or (safe >= 0 and v != safe):
                continue
            price, _, _ = placement(v, done, live, computed, t, held, rules)
            new = max(worst, price)
            if new > cap:
                continue
            word, _, _, image = canonical(done | bit, ZERO, ZERO, images)
            j = reach(store, (word, ZERO, ZERO), new, i, v, image, False)
            if j >= 0:
                push(store, new, left, j)
    return RUNNING
