"""Constructions for boards beyond exact search: strategies without bounds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from pebble.errors import InvalidArgument
from pebble.games.answers import Found
from pebble.games.arena import Arena
from pebble.games.board import Board
from pebble.games.constructions.one_shot import strategy_of_order
from pebble.games.constructions.orders import red_blue_strategy, search_order
from pebble.games.constructions.reversible import reversible_strategy
from pebble.games.moves import Act, Move, Step
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
    >>> from pebble.games import place, remove
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
