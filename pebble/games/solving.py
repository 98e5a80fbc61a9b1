"""Solve a game: least pebbles, least cost for so many pebbles, and the whole front between."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pebble.errors import InvalidArgument
from pebble.games.answers import GameResult, judged
from pebble.games.arena import Arena
from pebble.games.board import Board
from pebble.games.bounds.floors import cost_lower_bound
from pebble.games.engines import ENGINES, Engine, pick
from pebble.games.exact.downsets import least_spill
from pebble.games.exact.exploration import LIMIT
from pebble.games.hunt import ANY, Hunt, constructed, everything, polished
from pebble.games.position import Game
from pebble.games.rules import Black, RedBlue
from pebble.games.traffic import cut_applies, cut_bound

__all__ = ["ENGINES", "GameResult", "least_cost", "least_pebbles", "pareto_front"]

_SEARCHABLE = 32


def least_pebbles(
    graph: Any,
    game: Game,
    *,
    targets: Iterable[int | str] | None = None,
    engine: str | Engine = "auto",
    time_limit: float = 60.0,
    horizon: int | None = None,
    seed: int = 0,
) -> GameResult:
    """The fewest pebbles that suffice, with a strategy.

    Parameters
    ----------
    graph : Graph, networkx DiGraph or Board
    game : Game
    targets : iterable of int or str, optional
        Default: the pinned values, else the sinks.
    engine : str or callable
        ``"auto"``, ``"search"``, ``"cpsat"``, ``"heuristic"``, or a callable
        ``(game, board, pebbles, *, optimal, deadline, horizon, seed) -> Found``.
    time_limit : float
        Seconds. When they are over, the best strategy comes with the bound proved so far.
    horizon : int, optional
        Most moves for the step-indexed engine ``cpsat``.

    Returns
    -------
    GameResult

    Raises
    ------
    InvalidArgument
        If the time limit is not positive or the horizon negative, and for games and boards that
        the engine does not take.
    UnknownSolver
        If there is no such engine.

    Examples
    --------
    >>> from pebble.games import Black, make_graph
    >>> result = least_pebbles(make_graph("pyramid:4"), Black())
    >>> result.pebbles, str(result.status)
    (6, 'optimal')
    """
    began = time.monotonic()
    _check(time_limit, horizon)
    arena = Arena.of(game, graph, targets)
    game, board = arena.game, arena.board
    name, run = pick(engine, game, board)
    deadline = began + time_limit * (0.6 if name == "search" else 1.0)
    hunt = Hunt(run, game, board, {"horizon": horizon, "seed": seed})
    if name == "search" and isinstance(game, Black) and not game.recompute:
        hunt.start_from_orders(deadline)
    hunt.climb(deadline)
    message = ""
    if hunt.low < hunt.high:
        if name in ("search", "heuristic") and hunt.best is None:
            hunt.keep(constructed(game, board, ANY, began + time_limit * 0.8, seed))
        if name == "search":
            message = "the time or the memory for the search ran out"
            hunt.descend(began + time_limit)
    elif name == "search" and hunt.best is not None and not game.parallel:
        hunt.best = polished(game, board, hunt.high, hunt.best, began + time_limit)
    return judged(arena, "pebbles", name, hunt.found(), began, message=message)


def _check(time_limit: float, horizon: int | None) -> None:
    if not time_limit > 0:
        raise InvalidArgument(f"The time limit is {time_limit!r}; it must be positive (seconds).")
    if horizon is not None and horizon < 0:
        raise InvalidArgument(f"The horizon is {horizon!r}; it must not be negative (moves).")


def least_cost(
    graph: Any,
    game: Game,
    pebbles: int | None = None,
    *,
    targets: Iterable[int | str] | None = None,
    engine: str | Engine = "auto",
    time_limit: float = 60.0,
    horizon: int | None = None,
    seed: int = 0,
) -> GameResult:
    """The least cost of a strategy with so many pebbles (None: any number).

    The cost is the number of placements (black), moves (reversible, spooky, black-white),
    transfers (red-blue) or the cumulative cost (parallel black); see `least_pebbles` for the
    parameters.

    Examples
    --------
    >>> from pebble.games import Reversible, make_graph
    >>> least_cost(make_graph("path:8"), Reversible(), 4).cost
    25
    """
    began = time.monotonic()
    _check(time_limit, horizon)
    traffic = isinstance(game, RedBlue)
    arena = Arena.of(game, graph, targets)
    game, board = arena.game, arena.board
    name, run = pick(engine, game, board)
    searching, building = _shares(traffic, len(board)) if engine == "auto" else (1.0, 1.0)
    deadline = began + time_limit * searching
    room = everything(game, board) if pebbles is None else pebbles
    found = run(game, board, room, optimal=True, deadline=deadline, horizon=horizon, seed=seed)
    message, best = "", found.strategy
    bound = max(found.bound, cost_lower_bound(game, board))
    if best is None and found.infeasible:
        within = "" if found.horizon is None else f" of at most {found.horizon} moves"
        message = f"proved: no strategy{within} does with {room} pebbles"
    elif best is None:
        message = "the time or the memory for the search ran out"
        if name == "heuristic":
            message = f"the construction found none with {room} pebbles"
        stop = began + time_limit * building
        best = constructed(game, board, room, stop, seed) if engine == "auto" else None
    if isinstance(game, RedBlue) and engine == "auto" and not found.complete:
        bound = max(bound, _cuts(game, board, room, began + time_limit))
    answer = replace(found, strategy=best, bound=bound)
    return judged(arena, "cost", name, answer, began, message=message, room=room)


def _shares(traffic: bool, nodes: int) -> tuple[float, float]:
    """When the search, and then the construction, has to stop, as parts of the time limit."""
    if not traffic:
        return 0.8, 1.0
    return (0.3, 0.65) if nodes <= _SEARCHABLE else (0.1, 0.3)


def _cuts(game: RedBlue, board: Board, room: int, deadline: float) -> int:
    """What cuts prove about transfers: the best order's worst cut, or else single cuts."""
    left = deadline - time.monotonic()
    if left <= 0 or not cut_applies(game, board):
        return 0
    extra = 0
    if len(board) <= LIMIT:
        found = least_spill(game, board, room, deadline=deadline - 0.2 * left)
        extra, left = found.bound, deadline - time.monotonic()
        if found.complete or left <= 0:
            return cost_lower_bound(game, board) + extra
    return cost_lower_bound(game, board) + max(extra, cut_bound(game, board, room, time_limit=left))


def pareto_front(
    graph: Any,
    game: Game,
    *,
    targets: Iterable[int | str] | None = None,
    engine: str | Engine = "auto",
    time_limit: float = 60.0,
    horizon: int | None = None,
    seed: int = 0,
) -> tuple[GameResult, ...]:
    """All trade-offs between pebbles and cost, fewest pebbles first.

    The front is complete when the status of every result is optimal and the last search, with one
    pebble less than the first point, was a proof; otherwise it is what the time allowed.

    Examples
    --------
    >>> from pebble.games import Reversible, make_graph
    >>> [(r.pebbles, r.cost) for r in pareto_front(make_graph("path:4"), Reversible())]
    [(3, 9), (4, 7)]
    """
    _check(time_limit, horizon)
    deadline = time.monotonic() + time_limit
    front: list[GameResult] = []
    room: int | None = None
    while True:
        left = max(deadline - time.monotonic(), 0.01)
        result = least_cost(
            graph, game, room, targets=targets, engine=engine, time_limit=left, horizon=horizon,
            seed=seed,
        )  # fmt: skip
        if result.pebbles is None:
            break
        if front and front[0].cost == result.cost:
            front[0] = result
        else:
            front.insert(0, result)
        room = result.pebbles - 1
        if time.monotonic() > deadline or room < 0:
            break
    return tuple(front)
