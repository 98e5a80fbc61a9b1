"""Games and boards as numbers and bit sets, for the compiled searches."""

from __future__ import annotations

from typing import Any

import numpy as np

from pebble.games.board import Board
from pebble.games.position import Game
from pebble.games.rules import (
    Black,
    BlackWhite,
    InPlace,
    ParallelBlack,
    ParallelReversible,
    RedBlue,
    Reversible,
    Spooky,
)


def translate(game: Game, board: Board, pebbles: int) -> tuple[Any, Any]:
    """The rules as numbers; the board as bit sets, and what lies in slow memory at first."""
    from pebble.games.kernels import tables as k

    code = {
        Black: k.BLACK, Reversible: k.REVERSIBLE, BlackWhite: k.BLACK_WHITE, Spooky: k.SPOOKY,
        RedBlue: k.RED_BLUE, ParallelBlack: k.PARALLEL_BLACK,
        ParallelReversible: k.PARALLEL_REVERSIBLE,
    }.get(type(game), k.BLACK)  # fmt: skip
    n = len(board)
    ghosts = getattr(game, "ghosts", 0)
    rules = np.zeros(7, np.int64)
    rules[k.GAME], rules[k.CAPACITY], rules[k.N] = code, pebbles, n
    rules[k.GHOSTS] = n if ghosts is None else ghosts
    rules[k.SLIDE] = getattr(game, "slide", False)
    rules[k.HOLD] = getattr(game, "hold", False)
    rules[k.RECOMPUTE] = getattr(game, "recompute", True)
    plain = board if game.weighted else board.unweighted()
    size, cost = np.array(plain.sizes, np.int64), np.array(plain.costs, np.int64)
    blue, zero = 0, np.zeros(n, np.int64)
    place_cost, remove_cost, load_cost, store_cost = cost, cost, zero, zero
    if isinstance(game, RedBlue):
        place_cost, load_cost, store_cost = game.compute * cost, game.load * size, game.store * size
        blue = _mask(board.sources) if game.blue_inputs else 0
    ancestors = [board.ancestors([v]) for v in range(n)]
    tables = k.Tables(
        preds=_words(board.preds),
        succs=_words(board.succs),
        ancestors=_words(ancestors),
        size=size,
        extra=np.array(plain.workspaces, np.int64),
        place_cost=place_cost,
        remove_cost=remove_cost,
        load_cost=load_cost,
        store_cost=store_cost,
        one=np.ones(n, np.int64),
        masks=np.array([_mask(board.targets), blue], np.uint64),
    )
    return rules, tables


def translate_in_place(game: InPlace, board: Board, pebbles: int) -> tuple[Any, Any]:
    """The same for the in-place game, whose search counts the inputs that are there as pebbles."""
    from pebble.games.kernels import in_place as k

    in_place = game.in_place(board)
    above = [0] * len(board)
    for v in reversed(in_place):
        for u in board.preds[v]:
            above[u] |= 1 << v | above[v]
    rules = np.zeros(2, np.int64)
    rules[k.CAPACITY], rules[k.N] = pebbles + len(board.sources), len(board)
    network = k.Network(
        preds=_words(board.preds),
        above=np.array(above, np.uint64),
        one=np.ones(len(board), np.int64),
        masks=_words([board.targets, board.sources, in_place]),
    )
    return rules, network


def _mask(nodes: Any) -> int:
    return sum(1 << v for v in nodes)


def _words(rows: Any) -> Any:
    return np.array([_mask(row) for row in rows], np.uint64)
