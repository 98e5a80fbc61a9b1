"""Compiled A* over the configurations of a game, at most 64 nodes, a state of three bit sets.

The loop can be stopped and taken up again, so that the caller watches the clock and gives it more
room.
"""

from __future__ import annotations

from typing import Any

from pebble.compiling import entry
from pebble.games.kernels.estimates import estimate, reached
from pebble.games.kernels.store import (
    BOUND,
    EXHAUSTED,
    EXPANDED,
    FOUND,
    FULL,
    GOAL,
    HEAP,
    RUNNING,
    Store,
    has_room,
    pop,
    push,
    reach,
)
from pebble.games.kernels.successors import expand
from pebble.games.kernels.tables import Tables
from pebble.games.kernels.words import canonical


@entry
def advance(
    rules: Any,
    t: Tables,
    images: Any,
    store: Store,
    out: Any,
    moves: Any,
    limit: int,
    greed: int,
) -> Any:
    """Expand up to `limit` states.

    With `greed` 1 this is A*; above, a greedy search that asks whether the goal is in reach.
    """
    for _ in range(limit):
        if store.counters[HEAP] == 0:
            return EXHAUSTED
        if not has_room(store, len(out)):
            return FULL
        bound = store.heap_f[0]
        i = pop(store)
        if store.closed[i]:
            continue
        store.closed[i] = 1
        if greed == 1:
            store.counters[BOUND] = max(store.counters[BOUND], bound)
        a, b, c, g = store.a[i], store.b[i], store.c[i], store.g[i]
        if reached(rules, t, a, b, c):
            store.counters[GOAL] = i
            return FOUND
        store.counters[EXPANDED] += 1
        for k in range(expand(rules, t, a, b, c, out, moves)):
            cost = g + moves[k, 0]
            x, y, z, image = canonical(out[k, 0], out[k, 1], out[k, 2], images)
            j = reach(store, (x, y, z), cost, i, moves[k, 1], image, greed > 1)
            if j < 0:
                continue
            h = estimate(rules, t, x, y, z)
            push(store, cost + greed * h, h, j)
    return RUNNING
