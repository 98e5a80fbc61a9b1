"""Solve a game: least pebbles, least cost for so many pebbles, and the whole front between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from pebble.errors import InvalidArgument, UnknownSolver
from pebble.games.board import Board
from pebble.games.downsets import least_spill, search_orders
from pebble.games.floors import floor_of_cost, floor_of_pebbles
from pebble.games.moves import Move, Step
from pebble.games.parallel import search_steps
from pebble.games.playing import Play, play
from pebble.games.position import Game
from pebble.games.rules import Black, RedBlue, Reversible
from pebble.games.search import LIMIT, Found, search
from pebble.solver import Status

_ANY = 1 << 62
_POLISH = 100_000
_SEARCHABLE = 32
Engine = Callable[..., Found]
"""``engine(game, board, pebbles, *, optimal, deadline, horizon, seed) -> Found``."""


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
class _Arena:
    """A board cut down to what a game needs (no free inputs), and the way back."""

    judged: Game
    full: Board
    game: Game
    board: Board
    kept: tuple[int, ...]

    @classmethod
    def of(cls, game: Game, graph: Any, targets: Iterable[int | str] | None) -> _Arena:
        full = Board.of(graph, targets)
        nodes = set(full.ancestors(full.targets))
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


def search_engine(
    game: Game,
    board: Board,
    pebbles: int,
    *,
    optimal: bool = True,
    deadline: float | None = None,
    horizon: int | None = None,
    seed: int = 0,
) -> Found:
    """State search: A*, downsets for one-shot black games, Dijkstra for parallel games."""
    if game.parallel:
        return search_steps(game, board, pebbles, deadline=deadline)
    if isinstance(game, Black) and not game.recompute:
        found = search_orders(game, board, pebbles, deadline=deadline)
        cost = sum(board.costs) if game.weighted else len(board)
        return replace(found, bound=cost)
    return search(game, board, pebbles, optimal=optimal, deadline=deadline)


def cpsat_engine(game: Game, board: Board, pebbles: int, **options: Any) -> Found:
    """OR-Tools' CP-SAT on a model indexed by steps: exact within its horizon."""
    from pebble.games.stepwise import solve_steps

    return solve_steps(game, board, pebbles, **options)


def heuristic_engine(game: Game, board: Board, pebbles: int, **options: Any) -> Found:
    """Constructions and local search, for boards beyond the exact engines."""
    from pebble.games.heuristics import construct

    return construct(game, board, pebbles, **options)


ENGINES: dict[str, Engine] = {
    "search": search_engine,
    "cpsat": cpsat_engine,
    "heuristic": heuristic_engine,
}


def _pick(engine: str | Engine, game: Game, board: Board) -> tuple[str, Engine]:
    if callable(engine):
        return getattr(engine, "__name__", "custom"), engine
    if engine == "auto":
        engine = "search" if game.parallel or len(board) <= LIMIT else "heuristic"
    if engine not in ENGINES:
        raise UnknownSolver(
            f"There is no engine {engine!r}; choose auto, {', '.join(ENGINES)}, or pass a callable."
        )
    return engine, ENGINES[engine]


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

    Examples
    --------
    >>> from pebble.games import Black, make_graph
    >>> result = least_pebbles(make_graph("pyramid:4"), Black())
    >>> result.pebbles, str(result.status)
    (6, 'optimal')
    """
    began = time.monotonic()
    arena = _Arena.of(game, graph, targets)
    game, board = arena.game, arena.board
    name, run = _pick(engine, game, board)
    deadline = began + time_limit * (0.6 if name == "search" else 1.0)
    hunt = _Hunt(run, game, board, {"horizon": horizon, "seed": seed})
    if name == "search" and isinstance(game, Black) and not game.recompute:
        hunt.start_from_orders(deadline)
    hunt.climb(deadline)
    message = ""
    if hunt.low < hunt.high:
        if name in ("search", "heuristic") and hunt.best is None:
            hunt.keep(_constructed(game, board, _ANY, began + time_limit * 0.8, seed))
        if name == "search":
            message = "the time or the memory for the search ran out"
            hunt.descend(began + time_limit)
    elif name == "search" and hunt.best is not None and not game.parallel:
        hunt.best = _polished(game, board, hunt.high, hunt.best, began + time_limit)
    return _judged(
        arena, "pebbles", name, hunt.best, hunt.low, began,
        horizon=hunt.scope, states=hunt.states, message=message,
    )  # fmt: skip


class _Hunt:
    """The search for the fewest pebbles: proved below `low`, a strategy `best` with `high`."""

    def __init__(self, run: Engine, game: Game, board: Board, options: dict[str, Any]) -> None:
        weights = board.sizes if game.weighted else board.unweighted().sizes
        spaces = max(board.workspaces, default=0) if game.weighted else 0
        self.run, self.game, self.board, self.options = run, game, board, options
        self.low, self.high = floor_of_pebbles(game, board), sum(weights) + spaces
        self.best: tuple[Any, ...] | None = None
        self.states = 0
        self.scope: int | None = None

    def keep(self, strategy: tuple[Any, ...] | None) -> None:
        """Take a strategy if it is the best so far."""
        if strategy is not None:
            peak = play(self.game, self.board, strategy).peak
            if self.best is None or peak < self.high:
                self.best, self.high = strategy, peak
                self.low = min(self.low, peak)

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
        self.scope = found.horizon if found.horizon is not None else self.scope
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


def _constructed(
    game: Game, board: Board, room: int, deadline: float, seed: int
) -> tuple[Any, ...] | None:
    """A strategy from a construction, when the search gave up."""
    try:
        return heuristic_engine(
            game, board, room, optimal=False, deadline=deadline, seed=seed
        ).strategy
    except InvalidArgument:
        return None


def _polished(
    game: Game, board: Board, pebbles: int, strategy: tuple[Any, ...], deadline: float
) -> tuple[Any, ...]:
    """A cheaper strategy with as many pebbles, if a short search finds one."""
    if isinstance(game, Black) and not game.recompute:
        return strategy
    found = search(game, board, pebbles, deadline=deadline, max_states=_POLISH)
    return found.strategy or strategy


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
    traffic = isinstance(game, RedBlue)
    arena = _Arena.of(game, graph, targets)
    game, board = arena.game, arena.board
    name, run = _pick(engine, game, board)
    searching, building = _shares(traffic, len(board)) if engine == "auto" else (1.0, 1.0)
    deadline = began + time_limit * searching
    weights = board.sizes if game.weighted else board.unweighted().sizes
    spaces = max(board.workspaces, default=0) if game.weighted else 0
    room = sum(weights) + spaces if pebbles is None else pebbles
    found = run(game, board, room, optimal=True, deadline=deadline, horizon=horizon, seed=seed)
    message, best = "", found.strategy
    bound = max(found.bound, floor_of_cost(game, board))
    if best is None and found.infeasible:
        within = "" if found.horizon is None else f" of at most {found.horizon} moves"
        message = f"proved: no strategy{within} does with {room} pebbles"
    elif best is None:
        message = "the time or the memory for the search ran out"
        if name == "heuristic":
            message = f"the construction found none with {room} pebbles"
        stop = began + time_limit * building
        best = _constructed(game, board, room, stop, seed) if engine == "auto" else None
    if isinstance(game, RedBlue) and engine == "auto" and not found.complete:
        bound = max(bound, _cuts(game, board, room, began + time_limit))
    return _judged(
        arena, "cost", name, best, bound, began,
        horizon=found.horizon, states=found.states, message=message, infeasible=found.infeasible,
        room=room,
    )  # fmt: skip


def _shares(traffic: bool, nodes: int) -> tuple[float, float]:
    """When the search, and then the construction, has to stop, as parts of the time limit."""
    if not traffic:
        return 0.8, 1.0
    return (0.3, 0.65) if nodes <= _SEARCHABLE else (0.1, 0.3)


def _cuts(game: RedBlue, board: Board, room: int, deadline: float) -> int:
    """What cuts prove about transfers: the best order's worst cut, or else single cuts."""
    from pebble.games.traffic import cut_applies, cut_bound

    left = deadline - time.monotonic()
    if left <= 0 or not cut_applies(game, board):
        return 0
    extra = 0
    if len(board) <= LIMIT:
        found = least_spill(game, board, room, deadline=deadline - 0.2 * left)
        extra, left = found.bound, deadline - time.monotonic()
        if found.complete or left <= 0:
            return floor_of_cost(game, board) + extra
    return floor_of_cost(game, board) + max(extra, cut_bound(game, board, room, time_limit=left))


def _judged(
    arena: _Arena,
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
