"""What the compiled searches are given: a game as numbers, and its board as bit sets."""

from __future__ import annotations

from typing import Any, NamedTuple

BLACK, REVERSIBLE, BLACK_WHITE, SPOOKY, RED_BLUE, PARALLEL_BLACK, PARALLEL_REVERSIBLE = range(7)
"""Codes of the games."""
GAME, CAPACITY, GHOSTS, SLIDE, HOLD, RECOMPUTE, N = range(7)
"""Indices into the rule numbers."""
PLACE, REMOVE, SLIDING, WHITE, LIFT, GHOST, RESTORE, LOAD, STORE, STORE_REMOVE = range(10)
"""Codes of the acts in a packed move: act + 16 * node + 1024 * source."""


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
