"""Parallel games on small boards: Dijkstra over positions, one step placing and removing sets."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator

from pebble.errors import InvalidArgument
from pebble.games.board import Board
from pebble.games.moves import Step
from pebble.games.position import Game
from pebble.games.rules import ParallelBlack
from pebble.games.search import Found

LIMIT = 12


def search_steps(game: Game, board: Board, pebbles: int, *, deadline: float | None = None) -> Found:
    """A strategy of least cost for a parallel game, or the proof that there is none.

    Raises
    ------
    InvalidArgument
        If the board has more than 12 nodes: each position has exponentially many successors.
    """
    if len(board) > LIMIT:
        raise InvalidArgument(
            f"Parallel games are searched on at most {LIMIT} nodes; {board.name!r} has "
            f"{len(board)}."
        )
    black = isinstance(game, ParallelBlack)
    weights = board.sizes if game.weighted else board.unweighted().sizes
    weight = [0] * (1 << len(board))
    for word in range(1, len(weight)):
        low = word & -word
        weight[word] = weight[word ^ low] + weights[low.bit_length() - 1]
    preds = [sum(1 << u for u in row) for row in board.preds]
    targets = sum(1 << v for v in board.targets)
    start = (0, 0)
    cost, parent = {start: 0}, {start: start}
    heap, best = [(0, start)], 0
    while heap:
        best, state = heapq.heappop(heap)
        if best > cost[state]:
            continue
        if deadline is not None and time.monotonic() > deadline:
            return Found(None, best, states=len(cost))
        here, seen = state
        if seen & targets == targets if black else here == targets:
            return Found(_steps(parent, state), best, complete=True, states=len(cost))
        for there in _black(here, preds) if black else _reversible(here, preds):
            if weight[there] > pebbles:
                continue
            after = (there, (seen | there) & targets if black else 0)
            price = best + (weight[there] if black else 1)
            if price < cost.get(after, price + 1):
                cost[after], parent[after] = price, state
                heapq.heappush(heap, (price, after))
    return Found(None, infeasible=True, complete=True, states=len(cost))


def _subsets(word: int) -> Iterator[int]:
    part = word
    while True:
        yield part
        if not part:
            return
        part = (part - 1) & word


def _black(here: int, preds: list[int]) -> Iterator[int]:
    ready = sum(1 << v for v, p in enumerate(preds) if p & ~here == 0)
    for there in _subsets(ready | here):
        if there != here and there:
            yield there


def _reversible(here: int, preds: list[int]) -> Iterator[int]:
    ready = sum(1 << v for v, p in enumerate(preds) if p & ~here == 0)
    for change in _subsets(ready):
        there = here ^ change
        if change and all(preds[v] & ~there == 0 for v in range(len(preds)) if change >> v & 1):
            yield there


def _steps(
    parent: dict[tuple[int, int], tuple[int, int]], state: tuple[int, int]
) -> tuple[Step, ...]:
    steps: list[Step] = []
    while parent[state] != state:
        before = parent[state][0]
        steps.append(Step(_nodes(state[0] & ~before), _nodes(before & ~state[0])))
        state = parent[state]
    return tuple(reversed(steps))


def _nodes(word: int) -> tuple[int, ...]:
    return tuple(v for v in range(word.bit_length()) if word >> v & 1)
