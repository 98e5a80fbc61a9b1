"""Reversible strategies: the best of all constructions."""

from __future__ import annotations

from functools import partial

from pebble.games.board import Board
from pebble.games.constructions.cones import order_targets, play_cones
from pebble.games.constructions.lines import is_line, knill_strategy
from pebble.games.constructions.nested import nested_strategies
from pebble.games.constructions.stopovers import stopover_strategies
from pebble.games.constructions.trimming import tightened, trimmed
from pebble.games.literature.reversible_values import line_pebbles
from pebble.games.moves import Move
from pebble.games.playing import play
from pebble.games.rules import Reversible


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
    best = play_cones(board, order)
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
