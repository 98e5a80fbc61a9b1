"""Orders in which every node is computed once, by annealing: for black games and for red-blue."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from pebble.errors import InvalidArgument
from pebble.games.board import Board
from pebble.games.moves import Act, Move
from pebble.games.position import Game
from pebble.games.rules import Black, RedBlue


def search_order(
    board: Board,
    game: Black,
    *,
    deadline: float,
    seed: int = 0,
    enough: int = 0,
) -> tuple[list[int], int]:
    """A one-shot order of low peak, by annealing: (order, peak without sliding)."""
    from pebble.games.kernels import order_annealing as k

    net, marks = _net(board, game, board.targets if game.hold else ())
    best, order = 1 << 62, np.arange(len(board))
    rng = np.random.default_rng(seed)
    for restart in range(8):
        trial = _depth_first(board, seed + restart)
        scale = float(len(board) + 1)
        for heat in (2.0, 0.5):
            if restart and time.monotonic() > deadline:
                break
            rounds = 20_000 if time.monotonic() < deadline else 1
            cooling = k.Cooling(heat * scale, 0.02 * scale, rounds)
            value = k.anneal_order(k.PEAK, trial, net, marks, 0, cooling, rng)
            if value < best:
                best, order = int(value), trial.copy()
        if best // (len(board) + 1) <= enough or time.monotonic() > deadline:
            break
    return [int(v) for v in order], best // (len(board) + 1)


def red_blue_strategy(
    game: RedBlue, board: Board, red: int, *, deadline: float, seed: int = 0
) -> tuple[Move, ...] | None:
    """A red-blue strategy by annealing orders, each value computed once; None if none fits.

    Sizes and unequal transfer costs are not looked at; the play of the result counts them.
    """
    from pebble.games.kernels import order_annealing as k
    from pebble.games.kernels import order_costs as costs

    if game.weighted:
        raise InvalidArgument("The red-blue construction plays the unweighted game only.")
    net, marks = _net(board, Black(), board.targets, blue=game.blue_inputs)
    inputs = set(board.sources) if game.blue_inputs else set()
    best, order = costs.IMPOSSIBLE, None
    rng = np.random.default_rng(seed)
    for restart in range(64):
        trial = np.array([v for v in _depth_first(board, seed + restart) if v not in inputs])
        if len(trial) == 0:
            return ()
        for heat, rounds in ((2.0, 40_000), (0.7, 40_000)):
            if restart and time.monotonic() > deadline:
                break
            cooling = k.Cooling(heat, 0.05, rounds)
            value = k.anneal_order(k.TRANSFERS, trial, net, marks, red, cooling, rng)
            if value < best:
                best, order = int(value), trial.copy()
        if time.monotonic() > deadline:
            break
    if order is None:
        return None
    position = np.full(len(board), -1, np.int64)
    position[order] = np.arange(len(order))
    out = np.full((8 * sum(map(len, board.preds)) + 8 * len(board) + 8, 2), -1, np.int64)
    state = np.zeros(len(board), np.int64)
    costs.transfers_of(order, net, position, state, marks[2], game.blue_inputs, red, out)
    acts = {0: Act.PLACE, 1: Act.REMOVE, 7: Act.LOAD, 8: Act.STORE}
    stop = int(np.flatnonzero(out[:, 0] < 0)[0])
    return tuple(Move(acts[int(act)], int(v)) for act, v in out[:stop])


def _net(board: Board, game: Game, held: Iterable[int], *, blue: bool = True) -> tuple[Any, Any]:
    def csr(rows: Any) -> tuple[Any, Any]:
        pointers = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=pointers[1:])
        return pointers, np.array([x for row in rows for x in row], np.int64)

    plain = board if game.weighted else board.unweighted()
    flags = np.zeros(len(board), np.int64)
    flags[list(held)] = 1
    marks = (
        np.array(plain.sizes, np.int64),
        np.array(plain.workspaces, np.int64),
        flags,
        np.zeros(len(board), np.int64),
        np.array([int(blue)], np.int64),
    )
    return (*csr(board.preds), *csr(board.succs)), marks


def _depth_first(board: Board, seed: int) -> Any:
    """A topological order that finishes one target's cone after the other."""
    rng = np.random.default_rng(seed)
    seen: set[int] = set()
    order: list[int] = []
    for target in rng.permutation(board.targets):
        stack = [(int(target), False)]
        while stack:
            v, ready = stack.pop()
            if ready:
                order.append(v)
            elif v not in seen:
                seen.add(v)
                stack.append((v, True))
                reads = [u for u in board.preds[v] if u not in seen]
                stack += [(int(u), False) for u in rng.permutation(reads)]
    return np.array(order, np.int64)
