"""Compiled: lower bounds on what is left to pay in the sequential games, and their goals."""

from __future__ import annotations

from typing import Any

from pebble.compiling import inner
from pebble.games.kernels.tables import (
    BLACK,
    BLACK_WHITE,
    GAME,
    HOLD,
    RECOMPUTE,
    REVERSIBLE,
    SPOOKY,
    Tables,
)
from pebble.games.kernels.words import ONE, ZERO, absent, closure, lowest, total


@inner
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
        need = absent(targets & ~a, stray, a, t.preds)
        return total(need, t.place_cost) + total((need & ~targets) | stray, t.remove_cost)
    if game == BLACK_WHITE:
        there = a | b
        final = targets if hold else ZERO
        todo = targets & ~(a if hold else (c | there))
        need = absent(todo & ~there, b, there, t.preds)
        left = total(need, t.place_cost) + total(need & ~final, t.remove_cost)
        turned = b & final  # a white pebble on a target goes and comes back black
        left += total(turned, t.place_cost)
        return left + total((a & ~final) | b, t.remove_cost)
    if game == SPOOKY:
        stray = a & ~targets
        need = absent(targets & ~a & ~b, stray | b, a | b, t.preds)
        left = total(need | b, t.place_cost)  # every ghost must be restored
        return left + total((need | b | a) & ~targets, t.remove_cost)
    todo = targets & ~b
    need = closure(todo & ~a, a | (b & ~t.masks[1]), t.preds)
    left = total(todo, t.store_cost) + total(need & t.masks[1], t.load_cost)
    left += total(need & ~t.masks[1], t.place_cost)
    if not rules[RECOMPUTE]:
        left += total(need_loads(need, c, a, b, t.preds) & ~t.masks[1], t.load_cost)
    return left


@inner
def need_loads(need: Any, computed: Any, a: Any, b: Any, preds: Any) -> Any:
    """One-shot: computed values in slow memory only, that a needed computation reads."""
    reads = ZERO
    todo = need
    while todo != ZERO:
        reads |= preds[lowest(todo)]
        todo &= todo - ONE
    return reads & computed & b & ~a


@inner
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
