"""Constructions for boards beyond exact search: strategies without bounds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from pebble.errors import InvalidArgument
from pebble.games.answers import Arena
from pebble.games.board import Board
from pebble.games.constructions.lines import is_line, knill_strategy
from pebble.games.constructions.nested import nested_strategies
from pebble.games.constructions.stopovers import stopover_strategies
from pebble.games.constructions.trimming import tightened, trimmed
from pebble.games.exact.downsets import strategy_of_order
from pebble.games.exact.exploration import Found
from pebble.games.formulas import line_pebbles
from pebble.games.moves import Act, Move, Step, place, remove
from pebble.games.playing import play
from pebble.games.position import Game
from pebble.games.rules import (
    Black,
    BlackWhite,
    InPlace,
    ParallelBlack,
    ParallelReversible,
    RedBlue,
    Reversible,
)

_EXACT_TARGETS = 16
_ROUNDS = 4000


def construct(
    game: Game,
    board: Board,
    pebbles: int,
    *,
    optimal: bool = True,
    deadline: float | None = None,
    seed: int = 0,
    **_: Any,
) -> Found:
    """A strategy with at most so many pebbles, if the construction of the game reaches that.

    Black: local search over one-shot orders. Reversible and spooky: cone after cone, the order of
    the targets searched, and nested cones or stopovers where pebbles are short. In-place: the same,
    with nothing in place. Black-white: as black. Red-blue: local search over orders with eviction
    by next use. Parallel: one node a step.

    Raises
    ------
    InvalidArgument
        For the weighted red-blue game, and for a game from outside.
    """
    deadline = time.monotonic() + 60 if deadline is None else deadline
    strategy: tuple[Any, ...] | None
    if isinstance(game, RedBlue):
        strategy = red_blue_strategy(game, board, pebbles, deadline=deadline, seed=seed)
    elif isinstance(game, (Black, BlackWhite, ParallelBlack)):
        black = game if isinstance(game, Black) else Black(
            weighted=game.weighted, hold=getattr(game, "hold", False)
        )  # fmt: skip
        order = search_order(board, black, deadline=deadline, seed=seed, enough=pebbles)[0]
        strategy = strategy_of_order(black, board, order)
    elif isinstance(game, InPlace):  # with nothing in place
        apart = Arena.of(Reversible(free_inputs=True), board, None)
        strategy = apart.back(
            reversible_strategy(
                apart.board, pebbles, fewest=not optimal, deadline=deadline, seed=seed
            )
        )
    elif isinstance(game, (Reversible, ParallelReversible)):
        strategy = reversible_strategy(
            board, pebbles, fewest=not optimal, deadline=deadline, seed=seed
        )
    else:
        raise InvalidArgument(f"There is no construction for the game {str(game)!r}.")
    if strategy is not None and game.parallel:
        strategy = one_by_one(strategy, black=isinstance(game, ParallelBlack))
    if strategy is None or play(game, board, strategy).peak > pebbles:
        return Found(None)
    return Found(strategy)


def one_by_one(moves: Iterable[Move], *, black: bool) -> tuple[Step, ...]:
    """A sequential strategy as steps. Black removals go with the next placement, and cost nothing.

    Examples
    --------
    >>> print(*one_by_one([place(0), place(1), remove(0), place(2)], black=True), sep="; ")
    place 0; place 1; place 2, remove 0
    """
    steps: list[Step] = []
    leaving: list[int] = []
    for move in moves:
        if move.act is Act.PLACE:
            steps.append(Step((move.node,), tuple(leaving)))
            leaving = []
        elif black:
            leaving.append(move.node)
        else:
            steps.append(Step((), (move.node,)))
    return tuple(steps)


# -- reversible: each node placed once and removed once ------------------------------------------


def reversible_strategy(
    board: Board, pebbles: int, *, fewest: bool, deadline: float, seed: int = 0
) -> tuple[Move, ...]:
    """The best of all constructions: fewest moves within the pebbles, or fewest pebbles.

    Knill's on a path. Else cones, nested cones, and cones with stopovers, made better where there
    is room. Where none does with so many pebbles, the one that needs fewest.
    """
    if is_line(board):
        enough = line_pebbles(len(board))
        return knill_strategy(
            len(board), enough if fewest else min(max(pebbles, enough), len(board))
        )
    order = order_targets(board, seed=seed, deadline=deadline)[0]
    best = _play_cones(board, order)
    peak = play(Reversible(), board, best).peak
    if not fewest and peak <= pebbles:
        return best
    aim = 0 if fewest else pebbles
    makers = (
        nested_strategies(board, order, deadline=deadline),
        stopover_strategies(board, order, aim, deadline=deadline, seed=seed),
    )
    found: list[tuple[Move, ...]] = []
    for maker in makers:
        for strategy in map(partial(tightened, board), maker):
            new = play(Reversible(), board, strategy).peak
            if new < peak:
                best, peak = strategy, new
            if new <= aim:
                found.append(trimmed(board, strategy, pebbles, deadline=deadline, seed=seed))
                if maker is makers[0]:  # levels above take more moves
                    break
    if fewest:
        return trimmed(board, best, peak, deadline=deadline, seed=seed)
    return min(found, key=len, default=best)


def cone_strategy(
    board: Board, *, seed: int = 0, deadline: float | None = None
) -> tuple[Move, ...]:
    """The reversible strategy of fewest moves, with few pebbles for that.

    With every node placed once and removed once, a node that is no target stays until the last
    target above it is placed. So only the order of the targets matters: each one's cone is
    placed, then what no later target needs goes.

    Examples
    --------
    >>> from pebble.games import make_graph
    >>> len(cone_strategy(Board.of(make_graph("pyramid:2"))))
    11
    """
    order = order_targets(board, seed=seed, deadline=deadline)[0]
    return _play_cones(board, order)


def order_targets(
    board: Board, *, seed: int = 0, deadline: float | None = None
) -> tuple[tuple[int, ...], int, bool]:
    """The order of the targets with the lowest peak: (order, pebbles, proved).

    Exact by dynamic programming over sets of targets up to 16 of them, else local search.
    """
    groups, first = _groups(board), _before(board)
    count = len(board.targets)
    if count <= _EXACT_TARGETS:
        order, peak = _order_exactly(groups, first)
        return tuple(board.targets[i] for i in order), peak, True
    order, peak = _order_by_search(groups, first, seed, deadline)
    return tuple(board.targets[i] for i in order), peak, False


def _groups(board: Board) -> dict[int, int]:
    """Nodes that are no targets, counted by the set of targets that keeps them alive."""
    index = {v: i for i, v in enumerate(board.targets)}
    above = [0] * len(board)
    groups: dict[int, int] = {}
    for v in reversed(range(len(board))):
        for w in board.succs[v]:
            above[v] |= 1 << index[w] if w in index else above[w]
        if v not in index and above[v]:
            groups[above[v]] = groups.get(above[v], 0) + 1
    return groups


def _before(board: Board) -> list[int]:
    """For each target the set of targets in its cone, which are placed before it."""
    index = {v: i for i, v in enumerate(board.targets)}
    return [
        sum(1 << index[u] for u in board.ancestors([t]) if u in index and u != t)
        for t in board.targets
    ]


def _live(groups: dict[int, int], before: int, target: int, done: int) -> int:
    """Pebbles when a target is placed after those in `before`."""
    now = before | 1 << target
    alive = sum(size for mask, size in groups.items() if mask & now and mask & ~before)
    return alive + done + 1


def _order_exactly(groups: dict[int, int], first: list[int]) -> tuple[list[int], int]:
    count = len(first)
    best = {0: (0, -1)}
    for size in range(count):
        layer = [mask for mask in best if mask.bit_count() == size]
        for before in layer:
            peak = best[before][0]
            for target in range(count):
                if before >> target & 1 or first[target] & ~before:
                    continue
                new = max(peak, _live(groups, before, target, size))
                now = before | 1 << target
                if now not in best or new < best[now][0]:
                    best[now] = (new, target)
    full = (1 << count) - 1
    order, mask = [], full
    while mask:
        order.append(best[mask][1])
        mask ^= 1 << best[mask][1]
    return order[::-1], best[full][0]


def _order_by_search(
    groups: dict[int, int], first: list[int], seed: int, deadline: float | None
) -> tuple[list[int], int]:
    """Greedy by the smallest new cone, then moves of one target."""
    rng, count = np.random.default_rng(seed), len(first)

    def profile(order: list[int]) -> tuple[int, int]:
        before, lives = 0, []
        for done, target in enumerate(order):
            if first[target] & ~before:
                return 1 << 60, 0
            lives.append(_live(groups, before, target, done))
            before |= 1 << target
        return max(lives), sum(lives)

    order: list[int] = []
    before = 0
    while len(order) < count:
        left = [t for t in range(count) if not before >> t & 1 and not first[t] & ~before]
        order.append(min(left, key=lambda t: _live(groups, before, t, len(order))))
        before |= 1 << order[-1]
    best = profile(order)
    for _ in range(_ROUNDS):
        if deadline is not None and time.monotonic() > deadline:
            break
        i, j = (int(x) for x in rng.integers(count, size=2))
        trial = order.copy()
        trial.insert(j, trial.pop(i))
        new = profile(trial)
        if new <= best:
            order, best = trial, new
    return order, best[0]


def _play_cones(board: Board, order: Iterable[int]) -> tuple[Move, ...]:
    targets = set(board.targets)
    open_readers = [len(readers) for readers in board.succs]
    placed: set[int] = set()
    moves: list[Move] = []

    def finish(v: int) -> None:
        """v needs no reader any more: undo what only v kept alive."""
        for u in reversed(board.preds[v]):
            open_readers[u] -= 1
            if not open_readers[u] and u not in targets:
                moves.append(remove(u))
                finish(u)

    for target in order:
        for v in sorted(board.ancestors([target]) - placed):
            placed.add(v)
            moves.append(place(v))
            if v in targets:
                finish(v)
    return tuple(moves)


# -- orders: black and red-blue ------------------------------------------------------------------


def search_order(
    board: Board,
    game: Black,
    *,
    deadline: float,
    seed: int = 0,
    enough: int = 0,
) -> tuple[list[int], int]:
    """A one-shot order of low peak, by annealing: (order, peak without sliding)."""
    from pebble.games.kernels import orders as k

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
            value = k.anneal_order(
                k.PEAK, trial, net, marks, 0, heat * scale, 0.02 * scale, rounds, rng
            )
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
    from pebble.games.kernels import orders as k

    if game.weighted:
        raise InvalidArgument("The red-blue construction plays the unweighted game only.")
    net, marks = _net(board, Black(), board.targets, blue=game.blue_inputs)
    inputs = set(board.sources) if game.blue_inputs else set()
    best, order = k.IMPOSSIBLE, None
    rng = np.random.default_rng(seed)
    for restart in range(64):
        trial = np.array([v for v in _depth_first(board, seed + restart) if v not in inputs])
        if len(trial) == 0:
            return ()
        for heat, rounds in ((2.0, 40_000), (0.7, 40_000)):
            if restart and time.monotonic() > deadline:
                break
            value = k.anneal_order(k.TRANSFERS, trial, net, marks, red, heat, 0.05, rounds, rng)
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
    k.transfers_of(order, net, position, state, marks[2], game.blue_inputs, red, out)
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
