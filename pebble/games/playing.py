"""Play a strategy move by move: the judge of every engine, and of every strategy from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pebble.errors import IllegalMove
from pebble.games.board import Board
from pebble.games.moves import Move, Step
from pebble.games.position import Broken, Game, Position, SequentialGame
from pebble.games.rules.parallel import take_step
from pebble.graph import IntArray


@dataclass(frozen=True)
class Play:
    """What a strategy does, move by move.

    Attributes
    ----------
    pebbles : IntArray, shape (n_moves,)
        Weight of the pebbles on the board in each move (with the workspace of a weighted one).
    peak, peak_step : int
        The largest of `pebbles` and the first move that reaches it.
    time : int
        Moves (steps of a parallel game).
    placements, io : int
        Computations; loads and stores.
    cost : int
        What the game makes least: placements, moves, transfers, or cumulative cost.
    ghosts : int
        Most ghosts at a time.
    """

    pebbles: IntArray = field(repr=False)
    peak: int
    peak_step: int
    time: int
    placements: int
    io: int
    cost: int
    ghosts: int


def play(
    game: Game,
    graph: Any,
    strategy: Sequence[Move] | Sequence[Step],
    *,
    pebbles: int | None = None,
) -> Play:
    """Play a strategy under the rules of a game.

    Parameters
    ----------
    game : Game
    graph : Graph, networkx DiGraph or Board
        One op makes one value.
    strategy : sequence of Move, or of Step for a parallel game
    pebbles : int, optional
        The most weight that may be on the board; None: any.

    Raises
    ------
    IllegalMove
        At the first move that breaks a rule, naming step, move and rule, or if the goal is not
        reached in the end.

    Examples
    --------
    >>> import networkx as nx
    >>> from pebble.games import Black, place, remove
    >>> line = nx.path_graph(3, create_using=nx.DiGraph)
    >>> trace = play(Black(), line, (place(0), place(1), remove(0), place(2)))
    >>> trace.peak, trace.placements
    (2, 3)
    >>> play(Black(), line, (place(0), place(2)))
    Traceback (most recent call last):
    pebble.errors.IllegalMove: Step 1, place 2: placing needs a pebble on every predecessor, \
and '1' has none.
    """
    board = Board.of(graph)
    position = game.start(board)
    if isinstance(game, SequentialGame):
        counts = _play_moves(game, position, strategy, pebbles)
    else:
        counts = _play_steps(game, position, strategy, pebbles)
    unmet = game.unmet(position)
    if unmet is not None:
        raise IllegalMove(f"The strategy ends after {len(strategy)} moves, but {unmet}.")
    live = np.array(counts, np.int64)
    peak_step = int(live.argmax()) if len(live) else 0
    return Play(
        pebbles=live,
        peak=int(live[peak_step]) if len(live) else 0,
        peak_step=peak_step,
        time=len(live),
        placements=position.placements,
        io=position.io,
        cost=position.cost,
        ghosts=position.ghost_peak,
    )


def _illegal(step: int, move: Any, board: Board, rule: str) -> IllegalMove:
    names = board.names if isinstance(move, (Move, Step)) else None
    text = move.text(names) if names else repr(move)
    return IllegalMove(f"Step {step}, {text}: {rule}.")


def _play_moves(
    game: SequentialGame, position: Position, strategy: Sequence[Any], limit: int | None
) -> list[int]:
    act = game.moves(position)
    n = len(position.board)
    counts: list[int] = []
    append = counts.append
    move: Any = None
    try:
        for move in strategy:
            if not 0 <= move[1] < n:
                raise Broken(f"there is no node {move[1]}; the board has {n}")
            act[move[0]](move)
            weight = position.used
            if position.extra:
                weight += position.extra
                position.extra = 0
            if limit is not None and weight > limit:
                raise Broken(f"{weight} pebbles would be on the board, and {limit} is the limit")
            append(weight)
    except Broken as broken:
        raise _illegal(len(counts), move, position.board, str(broken)) from None
    except (KeyError, TypeError, IndexError):
        known = ", ".join(act)
        rule = f"the game {str(game)!r} knows only the moves {known}"
        raise _illegal(len(counts), move, position.board, rule) from None
    return counts


def _play_steps(
    game: Game, position: Position, strategy: Sequence[Any], limit: int | None
) -> list[int]:
    counts: list[int] = []
    for number, step in enumerate(strategy):
        try:
            take_step(game, position, step)
            if limit is not None and position.used > limit:
                raise Broken(
                    f"{position.used} pebbles would be on the board, and {limit} is the limit"
                )
        except Broken as broken:
            raise _illegal(number, step, position.board, str(broken)) from None
        counts.append(position.used)
    return counts
