"""Parallel games in the state search: one step places and removes sets of pebbles."""

from __future__ import annotations

from typing import Any

import numpy as np

from pebble.games.exact.exploration import Advance, Exploration
from pebble.games.moves import Step
from pebble.games.position import Game


def advance_steps(game: Game, rules: Any, tables: Any, images: Any, greed: int) -> Advance:
    """The inner loop of the search for a parallel game."""
    from pebble.games.kernels import parallel as k

    n = len(tables.preds)
    stack, room = np.zeros((2 * n + 2, 2), np.uint64), np.zeros((3, n + 1), np.int64)

    def advance(store: Any, chunk: int) -> int:
        return int(k.advance_parallel(rules, tables, images, store, stack, room, chunk, greed))

    return advance


def read_steps(seen: Exploration, images: Any) -> tuple[Step, ...]:
    """The steps on the way to the goal."""
    steps: list[Step] = []
    here: set[int] = set()
    for state, _, nodes in seen.path(images):
        word = int(seen.store.a[state])
        there = {nodes[v] for v in range(word.bit_length()) if word >> v & 1}
        steps.append(Step(tuple(sorted(there - here)), tuple(sorted(here - there))))
        here = there
    return tuple(steps)
