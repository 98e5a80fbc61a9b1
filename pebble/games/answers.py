"""Answers to questions about a game: a strategy that was played, and what is proved about it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from pebble.games.board import Board
from pebble.games.moves import Move, Step
from pebble.games.playing import Play, play
from pebble.games.position import Game
from pebble.games.rules import Black, InPlace, Reversible
from pebble.solver import Status


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


@dataclass(frozen=True)
class Arena:
    """A board cut down to what a game needs (no free inputs), and the way back."""

    judged: Game
    full: Board
    game: Game
    board: Board
    kept: tuple[int, ...]

    @classmethod
    def of(cls, game: Game, graph: Any, targets: Iterable[int | str] | None) -> Arena:
        full = Board.of(graph, targets)
        nodes = set(full.ancestors(full.targets))
        if isinstance(game, InPlace):
            # a gate that no target needs could give back what was overwritten: not proved useless
            nodes = set(range(len(full)))
        judged = game
        if isinstance(game, (Black, Reversible)) and game.free_inputs:
            nodes -= set(full.sources)
            game = replace(game, free_inputs=False)
        board, kept = full.restricted(nodes)
        return cls(judged, full, game, board, kept)

    def back(self, strategy: tuple[Any, ...]) -> tuple[Any, ...]:
        """The same moves, with the nodes of the full board."""
        at = self.kept
        moves: list[Any] = []
        for move in strategy:
            if isinstance(move, Step):
                steps = (tuple(at[v] for v in nodes) for nodes in move)
                moves.append(Step(*steps))
            else:
                source = at[move.source] if move.source >= 0 else -1
                moves.append(Move(move.act, at[move.node], source))
        return tuple(moves)


def judged(
    arena: Arena,
    objective: str,
    engine: str,
    strategy: tuple[Any, ...] | None,
    bound: int,
    began: float,
    *,
    horizon: int | None,
    states: int,
    message: str,
    infeasible: bool = False,
    room: int | None = None,
) -> GameResult:
    """The answer to a question: the strategy is played on the full board, the status derived."""
    trace, game = None, arena.judged
    if strategy is not None:
        strategy = arena.back(strategy)
        trace = play(game, arena.full, strategy, pebbles=room)
    if trace is None:
        status = Status.INFEASIBLE if infeasible else Status.NOT_FOUND
    else:
        value = trace.peak if objective == "pebbles" else trace.cost
        status = Status.OPTIMAL if value <= bound else Status.FEASIBLE
    return GameResult(
        game=game,
        board=arena.full,
        objective=objective,
        engine=engine,
        status=status,
        strategy=strategy,
        trace=trace,
        lower_bound=bound,
        horizon=horizon,
        states=states,
        runtime=time.monotonic() - began,
        message=message,
    )
