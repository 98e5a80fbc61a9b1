"""Compiled: the moves of the sequential games on states of three words.

What the words of a state mean depends on the game (see `expand`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pebble.compiling import inner
from pebble.games.kernels.tables import (
    BLACK,
    BLACK_WHITE,
    CAPACITY,
    GAME,
    GHOST,
    GHOSTS,
    HOLD,
    LIFT,
    LOAD,
    PLACE,
    RECOMPUTE,
    RED_BLUE,
    REMOVE,
    RESTORE,
    REVERSIBLE,
    SLIDE,
    SLIDING,
    SPOOKY,
    STORE,
    STORE_REMOVE,
    WHITE,
    N,
    Tables,
)
from pebble.games.kernels.words import ONE, ZERO, lowest, total


@inner
def emit(out: Any, moves: Any, at: int, a: Any, b: Any, c: Any, cost: int, move: int) -> Any:
    """Write one successor; returns the next free row."""
    out[at, 0], out[at, 1], out[at, 2] = a, b, c
    moves[at, 0], moves[at, 1] = cost, move
    return at + 1


@inner
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


@inner
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


@inner
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


@inner
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
