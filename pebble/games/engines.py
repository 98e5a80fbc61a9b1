"""The engines by name. Each says what it knows about one number of pebbles.

An engine is any ``engine(game, board, pebbles, *, optimal, deadline, horizon, seed) -> Found``:
with `optimal` a strategy of least cost, otherwise any; `deadline` is a value of
``time.monotonic()``, `horizon` the most moves for engines that count them, and `seed` for those
that draw. An engine leaves alone what means nothing to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pebble.errors import UnknownSolver
from pebble.games.answers import Found
from pebble.games.board import Board
from pebble.games.exact.downsets import search_orders
from pebble.games.exact.exploration import LIMIT
from pebble.games.exact.search import search
from pebble.games.position import Game
from pebble.games.rules import Black

Engine = Callable[..., Found]


def search_engine(
    game: Game, board: Board, pebbles: int, *, optimal: bool, deadline: float | None, **_: Any
) -> Found:
    """State search: A*, and downsets for one-shot black games."""
    if isinstance(game, Black) and not game.recompute:
        found = search_orders(game, board, pebbles, deadline=deadline)
        cost = sum(board.costs) if game.weighted else len(board)
        return replace(found, bound=cost)
    return search(game, board, pebbles, optimal=optimal, deadline=deadline)


def cpsat_engine(game: Game, board: Board, pebbles: int, **options: Any) -> Found:
    """OR-Tools' CP-SAT on a model indexed by steps: exact within its horizon."""
    from pebble.games.exact.stepwise import solve_steps

    return solve_steps(game, board, pebbles, **options)


def heuristic_engine(game: Game, board: Board, pebbles: int, **options: Any) -> Found:
    """Constructions and local search, for boards beyond the exact engines."""
    from pebble.games.constructions.heuristics import construct

    return construct(game, board, pebbles, **options)


ENGINES: dict[str, Engine] = {
    "search": search_engine,
    "cpsat": cpsat_engine,
    "heuristic": heuristic_engine,
}


def pick(engine: str | Engine, game: Game, board: Board) -> tuple[str, Engine]:
    """The engine of a name, which for ``"auto"`` depends on the board; a callable is itself."""
    if callable(engine):
        return getattr(engine, "__name__", "custom"), engine
    if engine == "auto":
        engine = "search" if len(board) <= LIMIT else "heuristic"
    if engine not in ENGINES:
        raise UnknownSolver(
            f"There is no engine {engine!r}; choose auto, {', '.join(ENGINES)}, or pass a callable."
        )
    return engine, ENGINES[engine]
