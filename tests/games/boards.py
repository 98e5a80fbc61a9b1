"""Boards that several tests of the games play on."""

from __future__ import annotations

from pebble.games import Board
from pebble.games.literature.random_graphs import random_dag


def joined_board(n: int, density: float, *, seed: int) -> Board:
    """A random board without the nodes that neither read nor are read."""
    full = Board.of(random_dag(n, density, seed=seed))
    return full.restricted(v for v in range(n) if full.preds[v] or full.succs[v])[0]
