"""Compiled A* for the parallel games: one step changes a set of nodes at once.

A state has exponentially many successors. They are built node by node and cut off as soon as
they weigh too much, and an expansion that meets a full store is given up and taken again later.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pebble.compiling import entry, inner
from pebble.games.kernels.store import (
    BOUND,
    EXHAUSTED,
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
from pebble.games.kernels.tables import CAPACITY, GAME, PARALLEL_BLACK, Tables
from pebble.games.kernels.words import ONE, ZERO, absent, canonical, closure, lowest, total


@inner
def steps_left(here: Any, t: Tables, come: Any, go: Any) -> Any:
    """Reversible: steps that the longest chain of placements and removals takes.

    What must come comes after its predecessors, and goes (unless it is a target) before them and
    after its readers have come.
    """
    n, targets = len(t.preds), t.masks[0]
    stray = here & ~targets
    need = absent(targets & ~here, stray, here, t.preds)
    longest = 0
    for v in range(n):
        come[v], go[v] = 0, 0
        if need & (ONE << np.uint64(v)) != ZERO:
            todo = t.preds[v] & need
            while todo != ZERO:
                come[v] = max(come[v], come[lowest(todo)])
                todo &= todo - ONE
            come[v] += 1
            longest = max(longest, come[v])
    for v in range(n - 1, -1, -1):
        bit = ONE << np.uint64(v)
        if (need | stray) & bit == ZERO or targets & bit != ZERO:
            continue
        go[v] = come[v]
        todo = t.succs[v] & (need | stray)
        while todo != ZERO:
            w = lowest(todo)
            go[v] = max(go[v], come[w], go[w])
            todo &= todo - ONE
        go[v] += 1
        longest = max(longest, go[v])
    return longest


@inner
def choices(rules: Any, t: Tables, here: Any, seen: Any, order: Any) -> Any:
    """Write the nodes that a step may change or keep; returns how many.

    Removals (black: what may stay) come first, so that in a reversible step the weight only grows.
    """
    n, ready = len(t.preds), ZERO
    for v in range(n):
        if t.preds[v] & ~here == ZERO:
            ready |= ONE << np.uint64(v)
    free = ready
    if rules[GAME] == PARALLEL_BLACK:
        useful = ZERO
        todo = t.masks[0] & ~seen
        while todo != ZERO:
            useful |= t.ancestors[lowest(todo)]
            todo &= todo - ONE
        free = (ready | here) & useful
    count = 0
    for kind in range(2):
        for v in range(n):
            bit = ONE << np.uint64(v)
            if free & bit != ZERO and (here & bit != ZERO) == (kind == 0):
                order[count] = v
                count += 1
    return count


@inner
def enter(
    here: Any, seen: Any, cost: int, left: int, greed: int, parent: int, images: Any, store: Store
) -> Any:
    """Take a successor in, if it is new or cheaper than before; False if there is no room."""
    if not has_room(store, 2):
        return False
    x, y, _, image = canonical(here, seen, ZERO, images)
    j = reach(store, (x, y, ZERO), cost, parent, 0, image, greed > 1)
    if j >= 0:
        push(store, cost + greed * left, left, j)
    return True


@inner
def expand_parallel(
    rules: Any, t: Tables, i: int, images: Any, store: Store, stack: Any, room: Any, greed: int
) -> Any:
    """Build all successors of a state; -1 if the store is full, else how many there are.

    A row of the stack: the next node in `room[2]`'s order, and the nodes chosen so far.
    """
    black, cap = rules[GAME] == PARALLEL_BLACK, rules[CAPACITY]
    here, seen, g, order = store.a[i], store.b[i], store.g[i], room[2]
    count = choices(rules, t, here, seen, order)
    top, made = 1, 0
    stack[0, 0], stack[0, 1] = ZERO, ZERO
    while top:
        top -= 1
        at, chosen = np.int64(stack[top, 0]), stack[top, 1]
        after = chosen if black else here ^ chosen
        if at == count:
            if chosen == ZERO or after == here:
                continue
            visited, price, left = ZERO, 1, 0
            if black:
                visited = (seen | after) & t.masks[0]
                price = total(after, t.size)
                left = total(closure(t.masks[0] & ~visited, after, t.preds), t.size)
            else:
                left = steps_left(after, t, room[0], room[1])
            if not enter(after, visited, g + price, left, greed, i, images, store):
                return -1
            made += 1
            continue
        v = order[at]
        bit = ONE << np.uint64(v)
        stack[top, 0], stack[top, 1] = np.uint64(at + 1), chosen
        top += 1
        if not black and (t.preds[v] | t.succs[v]) & chosen != ZERO:
            continue
        if (black or here & bit == ZERO) and total(after | bit, t.size) > cap:
            continue
        stack[top, 0], stack[top, 1] = np.uint64(at + 1), chosen | bit
        top += 1
    return made


@entry
def advance_parallel(
    rules: Any,
    t: Tables,
    images: Any,
    store: Store,
    stack: Any,
    room: Any,
    limit: int,
    greed: int,
) -> Any:
    """Expand states until there were about `limit` successors; `greed` as in the other search."""
    made, black = 0, rules[GAME] == PARALLEL_BLACK
    while made < limit:
        if store.counters[HEAP] == 0:
            return EXHAUSTED
        f, h = store.heap_f[0], store.heap_h[0]
        i = pop(store)
        if store.closed[i]:
            continue
        if greed == 1:
            store.counters[BOUND] = max(store.counters[BOUND], f)
        if (store.b[i] if black else store.a[i]) == t.masks[0]:
            store.counters[GOAL] = i
            return FOUND
        store.closed[i] = 1
        new = expand_parallel(rules, t, i, images, store, stack, room, greed)
        if new < 0:
            store.closed[i] = 0
            push(store, f, h, i)
            return FULL
        made += new + 1
    return RUNNING
