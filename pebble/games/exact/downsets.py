"""Orders in which every node is computed once: the best worst moment, by search over downsets."""

from __future__ import annotations

from typing import Any

import numpy as np

from pebble.games.answers import Found
from pebble.games.board import Board
from pebble.games.bounds.floors import least_working_set
from pebble.games.constructions.one_shot import strategy_of_order
from pebble.games.exact.exploration import MOST_STATES, Exploration
from pebble.games.exact.symmetry import byte_tables
from pebble.games.exact.translation import translate
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

    def advance(store: Any, chunk: int) -> int:
        return int(k.advance_downsets(tables, n, held, limits, cap, images, store, chunk))

    seen.run(advance, deadline, max_states)
    if seen.found:
        order = [nodes[int(seen.store.move[s])] for s, nodes, _ in seen.path(images)]
        return order, seen.bound, seen.states, True
    return None, seen.bound, seen.states, seen.exhausted
