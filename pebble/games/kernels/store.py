"""Compiled: the states a search has seen, in a hash table, and the heap of those still open."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pebble.compiling import entry, inner
from pebble.games.kernels.words import ONE

RUNNING, FOUND, EXHAUSTED, FULL = range(4)
"""How a search stands."""
STATES, HEAP, GOAL, BOUND, EXPANDED = range(5)
"""Indices into the counters of a search."""


class Store(NamedTuple):
    """The states seen so far, their hash table, the heap of open ones, and the counters."""

    a: Any
    b: Any
    c: Any
    g: Any
    parent: Any
    move: Any
    image: Any
    closed: Any
    table: Any
    heap_f: Any
    heap_h: Any
    heap_id: Any
    counters: Any


@inner
def slot_of(store: Store, a: Any, b: Any, c: Any) -> Any:
    """Position in the hash table of a state, or of the hole where it belongs."""
    key = a * np.uint64(0x9E3779B97F4A7C15) ^ b * np.uint64(0xC2B2AE3D27D4EB4F)
    key ^= c * np.uint64(0x165667B19E3779F9)
    key ^= key >> np.uint64(29)
    key *= np.uint64(0xBF58476D1CE4E5B9)
    key ^= key >> np.uint64(32)
    mask = np.uint64(len(store.table) - 1)
    at = key & mask
    while True:
        known = store.table[at]
        if known < 0:
            return np.int64(at)
        if store.a[known] == a and store.b[known] == b and store.c[known] == c:
            return np.int64(at)
        at = (at + ONE) & mask


@inner
def push(store: Store, f: int, h: int, state: int) -> None:
    """Add an entry to the heap, ordered by f, then by h."""
    counters = store.counters
    i = counters[HEAP]
    counters[HEAP] += 1
    while i > 0:
        up = (i - 1) >> 1
        if store.heap_f[up] < f or (store.heap_f[up] == f and store.heap_h[up] <= h):
            break
        store.heap_f[i] = store.heap_f[up]
        store.heap_h[i] = store.heap_h[up]
        store.heap_id[i] = store.heap_id[up]
        i = up
    store.heap_f[i], store.heap_h[i], store.heap_id[i] = f, h, state


@inner
def pop(store: Store) -> Any:
    """Take the least entry off the heap; returns its state."""
    first = store.heap_id[0]
    store.counters[HEAP] -= 1
    last = store.counters[HEAP]
    f, h, state = store.heap_f[last], store.heap_h[last], store.heap_id[last]
    i = 0
    while True:
        low = 2 * i + 1
        if low >= last:
            break
        right = low + 1
        if right < last and (
            store.heap_f[right] < store.heap_f[low]
            or (
                store.heap_f[right] == store.heap_f[low] and store.heap_h[right] < store.heap_h[low]
            )
        ):
            low = right
        if f < store.heap_f[low] or (f == store.heap_f[low] and h <= store.heap_h[low]):
            break
        store.heap_f[i] = store.heap_f[low]
        store.heap_h[i] = store.heap_h[low]
        store.heap_id[i] = store.heap_id[low]
        i = low
    store.heap_f[i], store.heap_h[i], store.heap_id[i] = f, h, state
    return first


@inner
def has_room(store: Store, states: int) -> Any:
    """Whether so many more states fit, and their entries on the heap."""
    room = len(store.a) - store.counters[STATES]
    return room >= states and len(store.heap_f) - store.counters[HEAP] >= states


@inner
def reach(
    store: Store,
    state: Any,
    cost: int,
    parent: int,
    move: int,
    image: int,
    once: bool,
) -> Any:
    """Enter a state of three words, or a cheaper way to it; its index, -1 if nothing changed.

    With `once` the first way to a state is the only one.
    """
    a, b, c = state
    slot = slot_of(store, a, b, c)
    i = store.table[slot]
    if i < 0:
        i = store.counters[STATES]
        store.counters[STATES] += 1
        store.table[slot] = i
        store.a[i], store.b[i], store.c[i] = a, b, c
    elif once or cost >= store.g[i]:
        return np.int64(-1)
    store.closed[i] = 0
    store.g[i], store.parent[i], store.move[i], store.image[i] = cost, parent, move, image
    return np.int64(i)


@entry
def rehash(store: Store, states: int) -> None:
    """Fill an empty hash table with the states there are."""
    for i in range(states):
        store.table[slot_of(store, store.a[i], store.b[i], store.c[i])] = i


@entry
def begin(store: Store, a: Any, b: Any, c: Any, bound: int, left: int) -> None:
    """Enter the first state, with a bound on the value of what follows."""
    store.a[0], store.b[0], store.c[0] = a, b, c
    store.g[0], store.parent[0], store.move[0] = bound, -1, -1
    store.table[slot_of(store, a, b, c)] = 0
    store.counters[STATES], store.counters[GOAL] = 1, -1
    push(store, bound, left, 0)
