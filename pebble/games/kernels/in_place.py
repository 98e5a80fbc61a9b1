"""Compiled: A* for the in-place game. A state is one word: the pebbles, and the inputs there."""

from __future__ import annotations

from typing import Any, NamedTuple

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
    Store,
    has_room,
    pop,
    push,
    reach,
)
from pebble.games.kernels.successors import emit
from pebble.games.kernels.tables import PLACE, REMOVE, SLIDING
from pebble.games.kernels.words import ONE, ZERO, canonical, lowest, total

CAPACITY, N = range(2)
"""Indices into the rule numbers; the capacity is that of the pebbles and the inputs."""


class Network(NamedTuple):
    """The board as bit sets."""

    preds: Any
    above: Any
    """What slides lead to from a node, one after the other."""
    one: Any
    masks: Any
    """Targets, inputs, and gates that may be computed in place."""


@inner
def estimate_in_place(t: Network, a: Any) -> Any:
    """Moves that are left at least; each brings one node at most, and takes one away at most.

    What comes and has nothing above it that could slide back is computed, so all that it reads
    must come too. What goes and has nothing above it to slide to is uncomputed. A computation is
    no uncomputation, so the two add up; inputs come back by uncomputations only.
    """
    goal = t.masks[0] | t.masks[1]
    stray = a & ~goal
    todo, left = goal & ~a, stray
    while left != ZERO:
        v = lowest(left)
        left &= left - ONE
        if t.above[v] == ZERO:
            todo |= t.preds[v] & ~a
    come, computed = ZERO, 0
    while todo != ZERO:
        v = lowest(todo)
        todo &= todo - ONE
        come |= ONE << np.uint64(v)
        if t.above[v] & a == ZERO:
            computed += 1
            todo |= t.preds[v] & ~a & ~come
    go = stray | (come & ~goal)
    uncomputed, left = 0, go
    while left != ZERO:
        if t.above[lowest(left)] == ZERO:
            uncomputed += 1
        left &= left - ONE
    uncomputed = max(uncomputed, total(come & t.masks[1], t.one))
    return max(computed + uncomputed, total(come, t.one), total(go, t.one))


@inner
def expand_in_place(rules: Any, t: Network, a: Any, out: Any, moves: Any) -> Any:
    """Every legal move. A slide needs no room, as a pebble goes where one comes."""
    count, room = 0, rules[CAPACITY] - total(a, t.one)
    for v in range(rules[N]):
        bit = ONE << np.uint64(v)
        if t.masks[1] & bit != ZERO:
            continue
        missing, there, slides = t.preds[v] & ~a, a & bit != ZERO, t.masks[2] & bit != ZERO
        if missing == ZERO and there:
            count = emit(out, moves, count, a & ~bit, ZERO, ZERO, 1, REMOVE + 16 * v)
        elif missing == ZERO:
            if room > 0:
                count = emit(out, moves, count, a | bit, ZERO, ZERO, 1, PLACE + 16 * v)
            todo = t.preds[v] if slides else ZERO
            while todo != ZERO:
                u = lowest(todo)
                todo &= todo - ONE
                after = (a | bit) & ~(ONE << np.uint64(u))
                count = emit(out, moves, count, after, ZERO, ZERO, 1, SLIDING + 16 * v + 1024 * u)
        elif there and slides and missing & (missing - ONE) == ZERO:
            code = SLIDING + 16 * lowest(missing) + 1024 * v
            count = emit(out, moves, count, (a | missing) & ~bit, ZERO, ZERO, 1, code)
    return count


@entry
def advance_in_place(
    rules: Any,
    t: Network,
    images: Any,
    store: Store,
    out: Any,
    moves: Any,
    limit: int,
    greed: int,
) -> Any:
    """Expand up to `limit` states; `greed` as in the search of the other games."""
    goal = t.masks[0] | t.masks[1]
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
        if store.a[i] == goal:  # the inputs are back, and pebbles on exactly the targets
            store.counters[GOAL] = i
            return FOUND
        store.counters[EXPANDED] += 1
        cost = store.g[i] + 1
        for k in range(expand_in_place(rules, t, store.a[i], out, moves)):
            word, _, _, image = canonical(out[k, 0], ZERO, ZERO, images)
            state, once = (word, ZERO, ZERO), greed > 1
            j = reach(store, state, cost, i, moves[k, 1], image, once)
            if j < 0:
                continue
            left = estimate_in_place(t, word)
            push(store, cost + greed * left, left, j)
    return RUNNING
