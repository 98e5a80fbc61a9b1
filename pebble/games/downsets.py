"""One-shot black games: least peak over all orders, by search over downsets."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from pebble.games.board import Board
from pebble.games.moves import Act, Move, place, remove
from pebble.games.rules import Black
from pebble.games.search import Found, grown, new_store, translate

_CHUNK = 20_000


def search_orders(
    game: Black,
    board: Board,
    pebbles: int,
    *,
    deadline: float | None = None,
    max_states: int = 12_000_000,
) -> Found:
    """An order of least peak, at most `pebbles`, or the proof that there is none.

    Parameters
    ----------
    board : Board
        At most 64 nodes, all of them ancestors of targets. Free inputs must be left out.
    deadline : float, optional
        Value of ``time.monotonic()`` to stop at.

    Returns
    -------
    Found
        Its bound is on the peak: every order costs the same.
    """
    from pebble.games import _downset_kernels as d
    from pebble.games import _search_kernels as k

    _, tables, _ = translate(game, board, pebbles, k)
    held = np.uint64(sum(1 << v for v in board.targets) if game.hold else 0)
    floor = least_working_set(game, board)
    if floor > pebbles:
        return Found(None, floor, infeasible=True, complete=True)
    counters, store = np.zeros(5, np.int64), new_store(k, 1 << 12)
    counters[k.STATES] = 1
    store.g[0], store.parent[0] = floor, -1
    store.table[k.slot_of(store, np.uint64(0), np.uint64(0), np.uint64(0))] = 0
    k.push(store, counters, floor, len(board), 0)
    while True:
        status = d.advance_downsets(
            tables, len(board), held, int(game.slide), pebbles, store, counters, _CHUNK
        )
        if status == k.FULL:
            store = grown(k, store, counters)
        elif status != k.RUNNING:
            break
        if deadline is not None and time.monotonic() > deadline:
            break
        if counters[k.STATES] > max_states:
            break
    states, bound = int(counters[k.STATES]), int(counters[k.BOUND])
    if status == k.EXHAUSTED:
        return Found(None, pebbles + 1, infeasible=True, complete=True, states=states)
    if status != k.FOUND:
        return Found(None, max(bound, floor), states=states)
    order, state = [], int(counters[k.GOAL])
    while state > 0:
        order.append(int(store.move[state]))
        state = int(store.parent[state])
    moves = strategy_of_order(game, board, order[::-1])
    return Found(moves, bound, complete=True, states=states)


def least_working_set(game: Black, board: Board) -> int:
    """What one placement needs at least: its inputs, and without sliding its output."""
    plain = board if game.weighted else board.unweighted()
    least = 0
    for v, reads in enumerate(board.preds):
        inputs = sum(plain.sizes[u] for u in reads)
        output = plain.sizes[v] + (0 if game.slide and reads else plain.workspaces[v])
        least = max(least, max(inputs, output) if game.slide and reads else inputs + output)
    return least


def strategy_of_order(game: Black, board: Board, order: Iterable[int]) -> tuple[Move, ...]:
    """The moves of a one-shot order: values go as soon as nothing will read them.

    Examples
    --------
    >>> from pebble.games import make_graph
    >>> print(*strategy_of_order(Black(), Board.of(make_graph("path:2")), [0, 1]), sep=", ")
    place 0, place 1, remove 0, remove 1
    """
    plain = board if game.weighted else board.unweighted()
    uses = [len(readers) for readers in board.succs]
    for t in board.targets if game.hold else ():
        uses[t] += 1
    moves: list[Move] = []
    for v in order:
        for u in board.preds[v]:
            uses[u] -= 1
        dying = [u for u in board.preds[v] if uses[u] == 0]
        if game.slide and dying:
            largest = max(dying, key=plain.sizes.__getitem__)
            dying.remove(largest)
            moves.append(Move(Act.SLIDE, v, largest))
        else:
            moves.append(place(v))
        moves += [remove(u) for u in dying]
        if not uses[v]:
            moves.append(remove(v))
    return tuple(moves)
