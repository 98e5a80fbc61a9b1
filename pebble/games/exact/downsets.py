"""Orders in which every node is computed once: the best worst moment, by search over downsets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pebble.games.board import Board
from pebble.games.exact.exploration import MOST_STATES, Exploration, Found, translate
from pebble.games.exact.symmetry import byte_tables
from pebble.games.moves import Act, Move, place, remove
from pebble.games.rules import Black, RedBlue


def search_orders(
    game: Black,
    board: Board,
    pebbles: int,
    *,
    deadline: float | None = None,
    max_states: int = MOST_STATES,
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
    floor = least_working_set(game, board)
    if floor > pebbles:
        return Found(None, floor, infeasible=True, complete=True)
    rules = (int(game.slide), 0, 0, 0, 0)
    order, bound, states, proved = _search_downsets(
        game, board, rules, floor, pebbles, deadline, max_states
    )
    if order is not None:
        moves = strategy_of_order(game, board, order)
        return Found(moves, bound, complete=True, states=states)
    if proved:
        return Found(None, pebbles + 1, infeasible=True, complete=True, states=states)
    return Found(None, max(bound, floor), states=states)


def least_spill(
    game: RedBlue,
    board: Board,
    red: int,
    *,
    deadline: float | None = None,
    max_states: int = MOST_STATES,
) -> Found:
    """A lower bound on what lies in slow memory only, at the worst moment of the best order.

    Measured by what it costs to bring it back: a load for an input, a store and a load for a
    computed value. Sources must start in slow memory, and the game must be unweighted.

    Returns
    -------
    Found
        Its bound is on that cost, and the least possible if it is complete. No strategy.

    Examples
    --------
    >>> from pebble.games import make_graph
    >>> board = Board.of(make_graph("matmul:2x2x2"))
    >>> [least_spill(RedBlue(), board, red).bound for red in (4, 5, 7)]
    [3, 2, 0]
    """
    rules = (0, 1, red, game.load, game.load + game.store)
    most = rules[-1] * len(board)
    _, bound, states, proved = _search_downsets(game, board, rules, 0, most, deadline, max_states)
    return Found(None, bound, complete=proved, states=states)


def _search_downsets(
    game: Black | RedBlue,
    board: Board,
    rules: tuple[int, ...],
    floor: int,
    cap: int,
    deadline: float | None,
    max_states: int,
) -> tuple[list[int] | None, int, int, bool]:
    """(order or None, bound on its worst moment, states, whether the search finished)."""
    from pebble.games.kernels import downsets as k

    _, tables = translate(game, board, 0)
    held = np.uint64(sum(1 << v for v in board.targets) if getattr(game, "hold", False) else 0)
    plain = board if game.weighted else board.unweighted()
    n, images, limits = len(board), byte_tables(plain), np.array(rules, np.int64)
    seen = Exploration(bound=floor, left=n)

    def advance(store: Any, counters: Any, chunk: int) -> int:
        return int(k.advance_downsets(tables, n, held, limits, cap, images, store, counters, chunk))

    seen.run(advance, deadline, max_states)
    if seen.found:
        order = [nodes[int(seen.store.move[s])] for s, nodes, _ in seen.path(images)]
        return order, seen.bound, seen.states, True
    return None, seen.bound, seen.states, seen.exhausted


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
