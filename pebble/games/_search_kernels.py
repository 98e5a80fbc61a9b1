"""Compiled A* over the configurations of a game, at most 64 nodes, a state of three bit sets.

The loop can be stopped and taken up again, so that the caller watches the clock and gives it more
room. What a state's three words mean depends on the game (see `expand`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

BLACK, REVERSIBLE, BLACK_WHITE, SPOOKY, RED_BLUE = range(5)
GAME, CAPACITY, GHOSTS, SLIDE, HOLD, RECOMPUTE, N = range(7)
"""Indices into the rule numbers."""
PLACE, REMOVE, SLIDING, WHITE, LIFT, GHOST, RESTORE, LOAD, STORE, STORE_REMOVE = range(10)
"""Codes of the acts in a packed move: act + 16 * node + 1024 * source."""
RUNNING, FOUND, EXHAUSTED, FULL = range(4)
STATES, HEAP, GOAL, BOUND, EXPANDED = range(5)
"""Indices into the counters of a search."""
ONE = np.uint64(1)
ZERO = np.uint64(0)


class Tables(NamedTuple):
    """The board as bit sets: words of type uint64, numbers of type int64, one per node."""

    preds: Any
    succs: Any
    ancestors: Any
    size: Any
    extra: Any
    place_cost: Any
    remove_cost: Any
    load_cost: Any
    store_cost: Any
    one: Any
    masks: Any
    """Targets, sources that start in slow memory."""


class Store(NamedTuple):
    """The states seen so far, their hash table, and the heap of open ones."""

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


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """numba.njit with an on-disk cache where one can be written."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no place for a cache
        return numba.njit(nogil=True)(function)


@compiled
def lowest(word: Any) -> Any:
    """Index of the lowest bit of a word that is not zero."""
    index = 0
    if word & np.uint64(0xFFFFFFFF) == ZERO:
        index += 32
        word >>= np.uint64(32)
    if word & np.uint64(0xFFFF) == ZERO:
        index += 16
        word >>= np.uint64(16)
    if word & np.uint64(0xFF) == ZERO:
        index += 8
        word >>= np.uint64(8)
    if word & np.uint64(0xF) == ZERO:
        index += 4
        word >>= np.uint64(4)
    if word & np.uint64(0x3) == ZERO:
        index += 2
        word >>= np.uint64(2)
    if word & ONE == ZERO:
        index += 1
    return index


@compiled
def total(word: Any, numbers: Any) -> Any:
    """Sum of the numbers of a set of nodes."""
    result = 0
    while word != ZERO:
        result += numbers[lowest(word)]
        word &= word - ONE
    return result


@compiled
def closure(frontier: Any, stop: Any, preds: Any) -> Any:
    """The frontier and what it depends on, not going through the nodes in `stop`."""
    need = ZERO
    todo = frontier
    while todo != ZERO:
        v = lowest(todo)
        need |= ONE << np.uint64(v)
        todo = (todo & (todo - ONE)) | (preds[v] & ~stop & ~need)
    return need


@compiled
def estimate(rules: Any, t: Tables, a: Any, b: Any, c: Any) -> Any:
    """A lower bound on what is left to pay: whatever is needed and absent must come (and go)."""
    game, hold = rules[GAME], rules[HOLD]
    targets = t.masks[0]
    if game == BLACK:
        todo = targets & ~(a if hold else (b | a))
        return total(closure(todo, a, t.preds), t.place_cost)
    if game == REVERSIBLE:
        if not hold:
            return total(closure(targets & ~(b | a), a, t.preds), t.place_cost)
        stray = a & ~targets
        need = _absent(targets & ~a, stray, a, t.preds)
        return total(need, t.place_cost) + total((need & ~targets) | stray, t.remove_cost)
    if game == BLACK_WHITE:
        there = a | b
        final = targets if hold else ZERO
        todo = targets & ~(a if hold else (c | there))
        need = _absent(todo & ~there, b, there, t.preds)
        left = total(need, t.place_cost) + total(need & ~final, t.remove_cost)
        turned = b & final  # a white pebble on a target goes and comes back black
        left += total(turned, t.place_cost)
        return left + total((a & ~final) | b, t.remove_cost)
    if game == SPOOKY:
        stray = a & ~targets
        need = _absent(targets & ~a & ~b, stray | b, a | b, t.preds)
        left = total(need | b, t.place_cost)  # every ghost must be restored
        return left + total((need | b | a) & ~targets, t.remove_cost)
    todo = targets & ~b
    need = closure(todo & ~a, a | (b & ~t.masks[1]), t.preds)
    left = total(todo, t.store_cost) + total(need & t.masks[1], t.load_cost)
    left += total(need & ~t.masks[1], t.place_cost)
    if not rules[RECOMPUTE]:
        left += total(need_loads(need, c, a, b, t.preds) & ~t.masks[1], t.load_cost)
    return left


@compiled
def need_loads(need: Any, computed: Any, a: Any, b: Any, preds: Any) -> Any:
    """One-shot: computed values in slow memory only, that a needed computation reads."""
    reads = ZERO
    todo = need
    while todo != ZERO:
        reads |= preds[lowest(todo)]
        todo &= todo - ONE
    return reads & computed & b & ~a


@compiled
def _absent(frontier: Any, leaving: Any, there: Any, preds: Any) -> Any:
    """Absent nodes that must come: the frontier, and what it or a leaving pebble depends on."""
    todo = frontier
    while leaving != ZERO:
        todo |= preds[lowest(leaving)] & ~there
        leaving &= leaving - ONE
    return closure(todo, there, preds)


@compiled
def reached(rules: Any, t: Tables, a: Any, b: Any, c: Any) -> Any:
    """Whether a state meets the goal."""
    game, hold = rules[GAME], rules[HOLD]
    targets = t.masks[0]
    if game == BLACK:
        return (targets & ~(a if hold else b)) == ZERO
    if game == REVERSIBLE:
        return a == targets if hold else (targets & ~b) == ZERO
    if game == BLACK_WHITE:
        if hold:
            return a == targets and b == ZERO
        return (a | b) == ZERO and (targets & ~c) == ZERO
    if game == SPOOKY:
        return a == targets and b == ZERO
    return (targets & ~b) == ZERO


@compiled
def emit(out: Any, moves: Any, at: int, a: Any, b: Any, c: Any, cost: int, move: int) -> Any:
    """Write one successor; returns the next free row."""
    out[at, 0], out[at, 1], out[at, 2] = a, b, c
    moves[at, 0], moves[at, 1] = cost, move
    return at + 1


@compiled
def expand(rules: Any, t: Tables, a: Any, b: Any, c: Any, out: Any, moves: Any) -> Any:
    """All successors worth a look; returns how many.

    Words of a state: black and reversible: pebbles, targets visited; black-white: black, white,
    targets visited; spooky: pebbles, ghosts; red-blue: red, blue, computed (one-shot only).
    """
    game = rules[GAME]
    if game == BLACK:
        return expand_black(rules, t, a, b, out, moves)
    if game == RED_BLUE:
        return expand_red_blue(rules, t, a, b, c, out, moves)
    return expand_unit(rules, t, a, b, c, out, moves)


@compiled
def expand_black(rules: Any, t: Tables, a: Any, seen: Any, out: Any, moves: Any) -> Any:
    """Black: a pebble goes only when the lack of room stops a placement (safe)."""
    n, room, count = rules[N], rules[CAPACITY] - total(a, t.size), 0
    track = ZERO if rules[HOLD] else t.masks[0]
    blocked = False
    relevant = ~ZERO
    if not rules[HOLD]:
        relevant = ZERO
        todo = t.masks[0] & ~seen
        while todo != ZERO:
            relevant |= t.ancestors[lowest(todo)]
            todo &= todo - ONE
    for v in range(n):
        bit = ONE << np.uint64(v)
        if a & bit != ZERO or t.preds[v] & ~a != ZERO or relevant & bit == ZERO:
            continue
        new = seen | (bit & track)
        if t.size[v] + t.extra[v] <= room:
            count = emit(out, moves, count, a | bit, new, ZERO, t.place_cost[v], PLACE + 16 * v)
            continue
        blocked = True
        if rules[SLIDE]:
            todo = t.preds[v]
            while todo != ZERO:
                u = lowest(todo)
                todo &= todo - ONE
                if t.size[v] - t.size[u] <= room:
                    left = (a | bit) & ~(ONE << np.uint64(u))
                    code = SLIDING + 16 * v + 1024 * u
                    count = emit(out, moves, count, left, new, ZERO, t.place_cost[v], code)
    todo = a if blocked else ZERO
    while todo != ZERO:
        u = lowest(todo)
        todo &= todo - ONE
        left = a & ~(ONE << np.uint64(u))
        count = emit(out, moves, count, left, seen, ZERO, 0, REMOVE + 16 * u)
    return count


@compiled
def expand_unit(rules: Any, t: Tables, a: Any, b: Any, c: Any, out: Any, moves: Any) -> Any:
    """Reversible, spooky and black-white: every legal move."""
    game, n, count = rules[GAME], rules[N], 0
    white = b if game == BLACK_WHITE else ZERO
    room = rules[CAPACITY] - total(a | white, t.size)
    track = ZERO if rules[HOLD] else t.masks[0]
    ghosts = 0
    if game == SPOOKY:
        ghosts = total(b, t.one)
    for v in range(n):
        bit = ONE << np.uint64(v)
        ready = t.preds[v] & ~(a | white) == ZERO
        fits = t.size[v] <= room
        put, take = t.place_cost[v], t.remove_cost[v]
        if game == REVERSIBLE:
            if not ready:
                continue
            if a & bit != ZERO:
                count = emit(out, moves, count, a & ~bit, b, c, take, REMOVE + 16 * v)
            elif fits:
                new = b | (bit & track)
                count = emit(out, moves, count, a | bit, new, c, put, PLACE + 16 * v)
        elif game == SPOOKY:
            if a & bit != ZERO:
                if ready:
                    count = emit(out, moves, count, a & ~bit, b, c, take, REMOVE + 16 * v)
                if ghosts < rules[GHOSTS]:
                    count = emit(out, moves, count, a & ~bit, b | bit, c, take, GHOST + 16 * v)
            elif ready and fits:
                act = RESTORE if b & bit != ZERO else PLACE
                count = emit(out, moves, count, a | bit, b & ~bit, c, put, act + 16 * v)
        elif a & bit != ZERO:
            count = emit(out, moves, count, a & ~bit, b, c, take, REMOVE + 16 * v)
        elif b & bit != ZERO:
            if ready:
                count = emit(out, moves, count, a, b & ~bit, c, take, LIFT + 16 * v)
        elif fits:
            new = c | (bit & track)
            if ready:
                count = emit(out, moves, count, a | bit, b, new, put, PLACE + 16 * v)
            count = emit(out, moves, count, a, b | bit, new, put, WHITE + 16 * v)
    return count


@compiled
def expand_red_blue(rules: Any, t: Tables, a: Any, b: Any, c: Any, out: Any, moves: Any) -> Any:
    """Red-blue: targets are stored at once; values leave only for lack of room (both safe)."""
    n, count = rules[N], 0
    ready = a & t.masks[0] & ~b
    if ready != ZERO:
        v = lowest(ready)
        bit = ONE << np.uint64(v)
        return emit(out, moves, 0, a, b | bit, c, t.store_cost[v], STORE + 16 * v)
    room = rules[CAPACITY] - total(a, t.size)
    sources = t.masks[1]
    once = not rules[RECOMPUTE]
    blocked = False
    for v in range(n):
        bit = ONE << np.uint64(v)
        if a & bit != ZERO:
            continue
        used_up = once and t.succs[v] & ~c == ZERO
        can_load = b & bit != ZERO and t.succs[v] != ZERO and not used_up
        can_place = t.preds[v] & ~a == ZERO and sources & bit == ZERO
        can_place = can_place and not (once and c & bit != ZERO)
        if not (can_load or can_place):
            continue
        if t.size[v] > room:
            blocked = True
            continue
        if can_place:
            done = c | bit if once else c
            count = emit(out, moves, count, a | bit, b, done, t.place_cost[v], PLACE + 16 * v)
        if can_load and not (can_place and t.place_cost[v] == 0):
            count = emit(out, moves, count, a | bit, b, c, t.load_cost[v], LOAD + 16 * v)
    if not blocked:
        return count
    todo = a
    while todo != ZERO:
        v = lowest(todo)
        bit = ONE << np.uint64(v)
        todo &= todo - ONE
        dead = t.succs[v] & ~c == ZERO if once else t.succs[v] == ZERO
        if dead:  # nothing is lost; no other choice matters
            return emit(out, moves, count, a & ~bit, b, c, 0, REMOVE + 16 * v)
    todo = a
    while todo != ZERO:
        v = lowest(todo)
        bit = ONE << np.uint64(v)
        todo &= todo - ONE
        stored = b & bit != ZERO
        if stored or not once:
            count = emit(out, moves, count, a & ~bit, b, c, 0, REMOVE + 16 * v)
        if not stored:
            count = emit(
                out, moves, count, a & ~bit, b | bit, c, t.store_cost[v], STORE_REMOVE + 16 * v
            )
    return count


@compiled
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


@compiled
def rehash(store: Store, states: int) -> None:
    """Fill an empty hash table with the states there are."""
    for i in range(states):
        store.table[slot_of(store, store.a[i], store.b[i], store.c[i])] = i


@compiled
def push(store: Store, counters: Any, f: int, h: int, state: int) -> None:
    """Add an entry to the heap, ordered by f, then by h."""
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


@compiled
def pop(store: Store, counters: Any) -> Any:
    """Take the least entry off the heap; returns its state."""
    first = store.heap_id[0]
    counters[HEAP] -= 1
    last = counters[HEAP]
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


@compiled
def permuted(word: Any, image: Any) -> Any:
    """The image of a set of nodes, from the images of its bytes."""
    result = ZERO
    for i in range(8):
        result |= image[i, word & np.uint64(255)]
        word >>= np.uint64(8)
    return result


@compiled
def canonical(a: Any, b: Any, c: Any, images: Any) -> Any:
    """The least image of a state, and which image it is (0: the state itself)."""
    x, y, z, which = a, b, c, 0
    for k in range(len(images)):
        new = permuted(a, images[k])
        if new > x:
            continue
        if b | c == ZERO:
            if new < x:
                x, which = new, k + 1
            continue
        second, third = permuted(b, images[k]), permuted(c, images[k])
        if new < x or second < y or (second == y and third < z):
            x, y, z, which = new, second, third, k + 1
    return x, y, z, which


@compiled
def begin(rules: Any, t: Tables, store: Store, counters: Any, blue: Any) -> None:
    """Enter the first state: nothing on the board, `blue` in slow memory."""
    store.a[0], store.b[0], store.c[0] = ZERO, blue, ZERO
    store.g[0], store.parent[0], store.move[0] = 0, -1, -1
    store.table[slot_of(store, ZERO, blue, ZERO)] = 0
    counters[STATES] = 1
    h = estimate(rules, t, ZERO, blue, ZERO)
    push(store, counters, h, h, 0)


@compiled
def advance(
    rules: Any,
    t: Tables,
    images: Any,
    store: Store,
    counters: Any,
    out: Any,
    moves: Any,
    limit: int,
    greed: int,
) -> Any:
    """Expand up to `limit` states. With `greed` 1 this is A*; above, a greedy search that only
    asks whether the goal can be reached."""
    for _ in range(limit):
        if counters[HEAP] == 0:
            return EXHAUSTED
        room = len(store.a) - counters[STATES]
        if room < len(out) or len(store.heap_f) - counters[HEAP] < len(out):
            return FULL
        bound = store.heap_f[0]
        i = pop(store, counters)
        if store.closed[i]:
            continue
        store.closed[i] = 1
        if greed == 1:
            counters[BOUND] = max(counters[BOUND], bound)
        a, b, c, g = store.a[i], store.b[i], store.c[i], store.g[i]
        if reached(rules, t, a, b, c):
            counters[GOAL] = i
            return FOUND
        counters[EXPANDED] += 1
        for k in range(expand(rules, t, a, b, c, out, moves)):
            cost = g + moves[k, 0]
            x, y, z, image = canonical(out[k, 0], out[k, 1], out[k, 2], images)
            slot = slot_of(store, x, y, z)
            j = store.table[slot]
            if j < 0:
                j = counters[STATES]
                counters[STATES] += 1
                store.table[slot] = j
                store.a[j], store.b[j], store.c[j] = x, y, z
                store.closed[j] = 0
            elif cost >= store.g[j] or greed > 1:
                continue
            store.closed[j] = 0
            store.g[j], store.parent[j], store.move[j] = cost, i, moves[k, 1]
            store.image[j] = image
            h = estimate(rules, t, x, y, z)
            push(store, counters, cost + greed * h, h, j)
    return RUNNING
