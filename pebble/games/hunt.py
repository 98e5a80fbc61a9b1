"""The hunt for the fewest pebbles: question after question to an engine, with both ends closing."""

from __future__ import annotations

import time
from typing import Any

from pebble.errors import InvalidArgument
from pebble.games.answers import Found
from pebble.games.board import Board
from pebble.games.bounds.floors import pebbles_lower_bound
from pebble.games.engines import Engine, heuristic_engine
from pebble.games.exact.downsets import search_orders
from pebble.games.exact.search import search
from pebble.games.playing import play
from pebble.games.position import Game
from pebble.games.rules import Black

ANY = 1 << 62
"""Stands for any number of pebbles."""
_POLISH = 100_000
"""States that the search for a cheaper strategy may see."""


def everything(game: Game, board: Board) -> int:
    """Weight of a pebble on every node: more is never of use."""
    plain = board if game.weighted else board.unweighted()
    return sum(plain.sizes) + max(plain.workspaces, default=0)


class Hunt:
    """The search for the fewest pebbles: proved below `low`, a strategy `best` with `high`.

    Parameters
    ----------
    run : Engine
    options : dict
        What the engine gets beside the question: ``horizon`` and ``seed``.
    """

    def __init__(self, run: Engine, game: Game, board: Board, options: dict[str, Any]) -> None:
        self.run, self.game, self.board, self.options = run, game, board, options
        self.low, self.high = pebbles_lower_bound(game, board), everything(game, board)
        self.best: tuple[Any, ...] | None = None
        self.states = 0
        self.horizon: int | None = None

    def keep(self, strategy: tuple[Any, ...] | None) -> None:
        """Take a strategy if it is the best so far."""
        if strategy is not None:
            peak = play(self.game, self.board, strategy).peak
            if self.best is None or peak < self.high:
                self.best, self.high = strategy, peak
                self.low = min(self.low, peak)

    def found(self) -> Found:
        """What the hunt says in the end."""
        return Found(self.best, self.low, states=self.states, horizon=self.horizon)

    def start_from_orders(self, deadline: float) -> None:
        """One-shot black games: the search over downsets finds the least peak in one go."""
        assert isinstance(self.game, Black)
        found = search_orders(self.game, self.board, self.high, deadline=deadline)
        self.states += found.states
        self.low = max(self.low, found.bound)
        self.keep(found.strategy)

    def ask(self, pebbles: int, deadline: float) -> Found:
        """Ask the engine whether so many are enough, and take the answer in."""
        found: Found = self.run(
            self.game, self.board, pebbles, optimal=False, deadline=deadline, **self.options
        )
        self.states += found.states
        self.horizon = self.horizon if found.horizon is None else found.horizon
        if found.infeasible:
            self.low = max(self.low, pebbles + 1)
        self.keep(found.strategy)
        return found

    def climb(self, deadline: float) -> None:
        """From the bound upwards (by halves for weights), until an answer stays open."""
        while self.best is None or self.low < self.high:
            if self.low > self.high:
                break
            step = (self.low + self.high) // 2 if self.game.weighted else self.low
            found = self.ask(step, deadline)
            if found.strategy is None and not found.infeasible:
                break

    def descend(self, deadline: float) -> None:
        """Any strategy near the bound: wider and wider steps up, then halving back."""
        width, room = 1, self.high
        while self.low + width < room and time.monotonic() < deadline:
            left = deadline - time.monotonic()
            if self.ask(self.low + width, time.monotonic() + left / 3).strategy is not None:
                break
            width *= 2
        failed = self.low + width // 2
        while failed + 1 < self.high and time.monotonic() < deadline:
            middle = (failed + self.high) // 2
            if self.ask(middle, time.monotonic() + (deadline - time.monotonic()) / 2).strategy:
                continue
            failed = middle


def constructed(
    game: Game, board: Board, room: int, deadline: float, seed: int
) -> tuple[Any, ...] | None:
    """A strategy from a construction, when the search gave up."""
    try:
        return heuristic_engine(
            game, board, room, optimal=False, deadline=deadline, seed=seed
        ).strategy
    except InvalidArgument:
        return None


def polished(
    game: Game, board: Board, pebbles: int, strategy: tuple[Any, ...], deadline: float
) -> tuple[Any, ...]:
    """A cheaper strategy with as many pebbles, if a short search finds one."""
    if isinstance(game, Black) and not game.recompute:
        return strategy
    found = search(game, board, pebbles, deadline=deadline, max_states=_POLISH)
    return found.strategy or strategy
