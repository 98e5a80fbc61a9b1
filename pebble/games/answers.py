"""Answers to questions about a game: a strategy that was played, and what is proved about it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from pebble.games.arena import Arena
from pebble.games.board import Board
from pebble.games.playing import Play, play
from pebble.games.position import Game
from pebble.solver import Status


@dataclass(frozen=True)
class Found:
    """What an engine says about one number of pebbles.

    Attributes
    ----------
    strategy : tuple of Move or Step, or None
    bound : int
        Proved least cost with these pebbles (0 where the search only asked for existence).
    infeasible : bool
        Proved: no strategy (within the horizon, if there is one).
    complete : bool
        Whether the engine finished: with a strategy and a claim that its cost is the least, or
        with a proof that there is none.
    states : int
        Configurations seen.
    horizon : int or None
        Most moves of the strategies that the claim speaks of; None: any number.
    """

    strategy: tuple[Any, ...] | None
    bound: int = 0
    infeasible: bool = False
    complete: bool = False
    states: int = 0
    horizon: int | None = None


@dataclass(frozen=True)
class GameResult:
    """A judged answer: the strategy was played under the rules.

    Attributes
    ----------
    game : Game
    board : Board
    objective : str
        ``"pebbles"`` or ``"cost"``.
    engine : str
    status : Status
    strategy, trace : the moves and their play; None if there is no strategy
    pebbles, cost : int or None
        Peak of the play, and its placements, moves, transfers or cumulative cost.
    lower_bound : int
        Proved, on the objective.
    horizon : int or None
        Most moves of the strategies that the bound and a proof of infeasibility speak of; None:
        strategies of any length.
    states : int
        Configurations that the search has seen.
    runtime : float
        Seconds.
    message : str
    """

    game: Game
    board: Board = field(repr=False)
    objective: str
    engine: str
    status: Status
    strategy: tuple[Any, ...] | None = field(repr=False)
    trace: Play | None = field(repr=False)
    lower_bound: int
    horizon: int | None = None
    states: int = 0
    runtime: float = 0.0
    message: str = ""

    @property
    def pebbles(self) -> int | None:
        """Peak of the strategy."""
        return None if self.trace is None else self.trace.peak

    @property
    def cost(self) -> int | None:
        """Cost of the strategy in its game's measure."""
        return None if self.trace is None else self.trace.cost

    @property
    def value(self) -> int | None:
        """What was to be least: pebbles or cost."""
        return self.pebbles if self.objective == "pebbles" else self.cost

    @property
    def gap(self) -> float | None:
        """Value over lower bound, less one; None without a strategy."""
        if self.value is None:
            return None
        if self.lower_bound == 0:
            return 0.0 if self.value == 0 else float("inf")
        return self.value / self.lower_bound - 1

    def __str__(self) -> str:
        scope = "" if self.horizon is None else f" within {self.horizon} moves"
        head = f"{self.game} on {self.board.name}: {self.status}{scope}"
        if self.trace is None:
            return f"{head}; {self.message or 'no strategy'} ({self.engine})"
        return (
            f"{head}, {self.pebbles} pebbles, {self.cost} {self.game.cost_name}, "
            f"{self.objective} at least {self.lower_bound} ({self.engine}, {self.runtime:.2f} s)"
        )


def judged(
    arena: Arena,
    objective: str,
    engine: str,
    found: Found,
    began: float,
    *,
    message: str = "",
    room: int | None = None,
) -> GameResult:
    """The answer to a question: the strategy is played on the full board, the status derived.

    Parameters
    ----------
    found : Found
        What was found on the board of the arena; its bound is on the objective.
    began : float
        Value of ``time.monotonic()`` when the question was asked.
    room : int, optional
        The most pebbles that the question allows.
    """
    strategy, trace = found.strategy, None
    if strategy is not None:
        strategy = arena.back(strategy)
        trace = play(arena.judged, arena.full, strategy, pebbles=room)
    if trace is None:
        status = Status.INFEASIBLE if found.infeasible else Status.NOT_FOUND
    else:
        value = trace.peak if objective == "pebbles" else trace.cost
        status = Status.OPTIMAL if value <= found.bound else Status.FEASIBLE
    return GameResult(
        game=arena.judged,
        board=arena.full,
        objective=objective,
        engine=engine,
        status=status,
        strategy=strategy,
        trace=trace,
        lower_bound=found.bound,
        horizon=found.horizon,
        states=found.states,
        runtime=time.monotonic() - began,
        message=message,
    )
