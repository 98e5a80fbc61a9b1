"""Parallel games: A* over positions, one step placing and removing sets."""

from __future__ import annotations

from typing import Any

import numpy as np

from pebble.games.board import Board
from pebble.games.moves import Step
from pebble.games.position import Game
from pebble.games.rules import ParallelBlack
from pebble.games.search import (
    GREED,
    MOST_STATES,
    Found,
    drive,
    enter_first,
    new_store,
    path_to,
    require_small,
    translate,
)
from pebble.games.symmetry import byte_tables


def search_steps(
    game: Game,
    board: Board,
    pebbles: int,
    *,
    optimal: bool = True,
    deadline: float | None = None,
    max_states: int = MOST_STATES,
) -> Found:
    """A strategy of least cost for a parallel game, or the proof that there is none.

    See `pebble.games.search.search` for the parameters and what it raises.
    """
    require_small(board)
    from pebble.games import _parallel_kernels as p
    from pebble.games import _search_kernels as k

    n, black = len(board), isinstance(game, ParallelBlack)
    _, tables, _ = translate(game, board, pebbles, k)
    images = byte_tables(board if game.weighted else board.unweighted())
    counters, store = np.zeros(5, np.int64), new_store(k, 1 << 12)
    stack, room = np.zeros((2 * n + 2, 2), np.uint64), np.zeros((3, n + 1), np.int64)
    enter_first(k, store, counters, 0, 0)

    def advance(store: Any, chunk: int) -> int:
        return int(
            p.advance_parallel(
                black,
                pebbles,
                n,
                tables,
                images,
                store,
                counters,
                stack,
                room,
                chunk,
                1 if optimal else GREED,
            )
        )

    status, store = drive(k, advance, store, counters, deadline, max_states)
    states, bound = int(counters[k.STATES]), int(counters[k.BOUND])
    if status == k.FOUND:
        steps = _steps(store, int(counters[k.GOAL]), images)
        return Found(steps, bound, complete=True, states=states)
    if status == k.EXHAUSTED:
        return Found(None, infeasible=True, complete=True, states=states)
    return Found(None, bound, states=states)


def _steps(store: Any, goal: int, images: Any) -> tuple[Step, ...]:
    steps: list[Step] = []
    here: set[int] = set()
    for state, _, nodes in path_to(store, goal, images):
        word = int(store.a[state])
        there = {nodes[v] for v in range(word.bit_length()) if word >> v & 1}
        steps.append(Step(tuple(sorted(there - here)), tuple(sorted(here - there))))
        here = there
    return tuple(steps)
