"""State search: A* over the configurations of a game. Exact; proves and refutes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from pebble.errors import InvalidArgument
from pebble.games.answers import Found
from pebble.games.board import Board
from pebble.games.exact.exploration import LIMIT, MOST_STATES, Advance, Exploration
from pebble.games.exact.parallel import advance_steps, read_steps
from pebble.games.exact.symmetry import byte_tables
from pebble.games.exact.translation import translate, translate_in_place
from pebble.games.moves import Act, Move
from pebble.games.position import Game
from pebble.games.rules import InPlace

GREED = 64
"""Weight of what is left in a search that only asks whether the goal can be reached."""
_ACTS = (
    Act.PLACE, Act.REMOVE, Act.SLIDE, Act.WHITE, Act.LIFT, Act.GHOST, Act.RESTORE, Act.LOAD,
    Act.STORE,
)  # fmt: skip
_STORE_REMOVE = 9


def search(
    game: Game,
    board: Board,
    pebbles: int,
    *,
    optimal: bool = True,
    deadline: float | None = None,
    max_states: int = MOST_STATES,
) -> Found:
    """A strategy of least cost with at most so many pebbles, or the proof that there is none.

    Parameters
    ----------
    board : Board
        At most 64 nodes. Free inputs must be left out already.
    optimal : bool
        Least cost; False: any strategy, found greedily.
    deadline : float, optional
        Value of ``time.monotonic()`` to stop at.
    max_states : int
        Gives up above this (about 60 bytes each).

    Raises
    ------
    InvalidArgument
        If the board has more nodes than a word has bits.
    """
    if len(board) > LIMIT:
        raise InvalidArgument(
            f"State search plays on at most {LIMIT} nodes, and {board.name!r} has {len(board)}; "
            "engine='heuristic' plays beyond."
        )
    plain = board if game.weighted else board.unweighted()
    if isinstance(game, InPlace):
        plain = _marked(plain, game.in_place(board))
        rules, tables = translate_in_place(game, board, pebbles)
        seen = Exploration(tables.masks[1], 0, 0)
    else:
        rules, tables = translate(game, board, pebbles)
        seen = Exploration(0, tables.masks[1], 0)
    images = byte_tables(plain)
    advance, read = (advance_steps, read_steps) if game.parallel else (_advance_moves, _read_moves)
    greed = 1 if optimal else GREED
    seen.run(advance(game, rules, tables, images, greed), deadline, max_states)
    strategy = read(seen, images) if seen.found else None
    return Found(
        strategy,
        seen.bound,
        infeasible=seen.exhausted,
        complete=seen.found or seen.exhausted,
        states=seen.states,
    )


def _marked(board: Board, in_place: tuple[int, ...]) -> Board:
    """The gates that may be computed in place told apart by weights that mean nothing else here."""
    return replace(board, workspaces=tuple(int(v in in_place) for v in range(len(board))))


def _advance_moves(game: Game, rules: Any, tables: Any, images: Any, greed: int) -> Advance:
    if isinstance(game, InPlace):
        from pebble.games.kernels.in_place import advance_in_place as kernel
    else:
        from pebble.games.kernels.search import advance as kernel

    n = len(tables.preds)
    width = 4 + n + 2 * max(n, sum(int(word).bit_count() for word in tables.preds))
    out, moves = np.zeros((width, 3), np.uint64), np.zeros((width, 2), np.int64)

    def advance(store: Any, chunk: int) -> int:
        return int(kernel(rules, tables, images, store, out, moves, chunk, greed))

    return advance


def _read_moves(seen: Exploration, images: Any) -> tuple[Move, ...]:
    moves: list[Move] = []
    for state, board, _ in seen.path(images):
        code = int(seen.store.move[state])
        act, node = code & 15, board[code >> 4 & 63]
        if act == _STORE_REMOVE:
            moves += [Move(Act.STORE, node), Move(Act.REMOVE, node)]
        elif act == 2:
            moves.append(Move(Act.SLIDE, node, board[code >> 10]))
        else:
            moves.append(Move(_ACTS[act], node))
    return tuple(moves)
