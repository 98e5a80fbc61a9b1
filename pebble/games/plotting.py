"""Pictures of strategies. Every one takes `ax=None`, draws with matplotlib, returns the Axes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from pebble.axes import LINES, Data, axes_for, legend_below, picture
from pebble.errors import InvalidArgument
from pebble.games.answers import GameResult
from pebble.games.board import Board
from pebble.games.frames import frames, positions
from pebble.games.position import BLACK, FREE, GHOST, WHITE, Position
from pebble.games.rules import RedBlue
from pebble.step_through import StepThrough
from pebble.step_through import step_through as through

HELD, AGAIN, OTHER, QUIET = "#1f77b4", "#ff7f0e", "#9467bd", "#dddddd"
_COLOURS = {0: QUIET, 1: HELD, 2: AGAIN, 3: OTHER}


def _solved(result: GameResult) -> tuple[Any, ...]:
    if result.strategy is None:
        raise InvalidArgument(f"There is no strategy to draw: {result}.")
    return result.strategy


def _kinds(result: GameResult, position: Position, before: set[int]) -> list[int]:
    """0 nothing, 1 pebble, 2 pebble of a repeated placement, 3 white, ghost or slow memory."""
    kinds = []
    for v, what in enumerate(position.on):
        kind = 0
        if what in (BLACK, FREE):
            kind = 2 if v in before else 1
        elif what in (WHITE, GHOST) or (isinstance(result.game, RedBlue) and position.blue[v]):
            kind = 3
        kinds.append(kind)
    return kinds


def strategy_matrix(result: GameResult) -> np.ndarray[Any, np.dtype[np.int64]]:
    """What lies where and when, shape (n_nodes, n_moves + 1).

    0 nothing, 1 a pebble of a first placement, 2 of a later one, 3 white, ghost or slow memory.
    """
    columns, count = [], [0] * len(result.board)
    last = bytes(len(result.board))
    for position in positions(result.game, result.board, _solved(result)):
        now = bytes(position.on)
        for v, (old, new) in enumerate(zip(last, now)):
            count[v] += new == BLACK and old != BLACK
        last = now
        columns.append(_kinds(result, position, {v for v, c in enumerate(count) if c > 1}))
    return np.array(columns, np.int64).T


def strategy_data(result: GameResult) -> Data:
    """What `plot_strategy` draws: ``matrix``, see `strategy_matrix`, and ``nodes``, its rows."""
    return {"nodes": list(result.board.names), "matrix": strategy_matrix(result).tolist()}


@picture(strategy_data)
def plot_strategy(result: GameResult, *, ax: Any = None) -> Any:
    """The timeline of a strategy: one row a node, one column a move.

    Blue: held; orange: held after a repeated placement; violet: white, ghost or slow memory.
    """
    from matplotlib.colors import ListedColormap

    matrix = strategy_matrix(result)
    high, wide = matrix.shape
    ax = axes_for(ax, (min(12.0, 3 + wide / 9), min(8.0, 1.2 + high / 6)))
    colours = ListedColormap([_COLOURS[k] for k in range(4)])
    ax.imshow(matrix, aspect="auto", cmap=colours, vmin=0, vmax=3, interpolation="none")
    ax.set_xlabel("move")
    ax.set_ylabel("node")
    if high <= 24:
        ax.set_yticks(range(high), result.board.names)
    ax.set_title(
        f"{result.game} on {result.board.name}: {result.pebbles} pebbles, "
        f"{result.cost} {result.game.cost_name}",
        fontsize=10,
    )
    return ax


def pebbles_data(results: GameResult | Iterable[GameResult]) -> Data:
    """What `plot_pebbles` draws: pebbles after each move, a list for each strategy."""
    several = [results] if isinstance(results, GameResult) else list(results)
    return {"boards": [r.board.name for r in several], "pebbles": [_pebbles(r) for r in several]}


def _pebbles(result: GameResult) -> list[int]:
    _solved(result)
    assert result.trace is not None
    return list(map(int, result.trace.pebbles))


@picture(pebbles_data)
def plot_pebbles(results: GameResult | Iterable[GameResult], *, ax: Any = None) -> Any:
    """Pebbles on the board over the moves, one line for each strategy."""
    results = [results] if isinstance(results, GameResult) else list(results)
    ax = axes_for(ax, (8, 3))
    for (colour, dash, _), result in zip(_cycle(len(results)), results):
        _solved(result)
        trace = result.trace
        assert trace is not None
        label = f"{result.board.name}: peak {trace.peak}, {trace.cost} {result.game.cost_name}"
        ax.step(range(len(trace.pebbles)), trace.pebbles, where="post", color=colour, ls=dash,
                label=label)  # fmt: skip
    ax.set_xlabel("move")
    ax.set_ylabel("pebbles")
    ax.set_ylim(bottom=0)
    legend_below(ax, 2)
    return ax


def front_data(fronts: Iterable[GameResult] | dict[str, Iterable[GameResult]]) -> Data:
    """What `plot_front` draws: pebbles, cost and whether that is proved, by name of the front."""
    named = fronts if isinstance(fronts, dict) else {"": fronts}
    return {
        label: [
            {"pebbles": r.pebbles, "cost": r.cost, "proved": r.status == "optimal"}
            for r in front
            if r.strategy is not None
        ]
        for label, front in named.items()
    }


@picture(front_data)
def plot_front(
    fronts: Iterable[GameResult] | dict[str, Iterable[GameResult]], *, ax: Any = None
) -> Any:
    """The trade-off between pebbles and cost; a staircase, filled markers where it is proved."""
    named = fronts if isinstance(fronts, dict) else {"": fronts}
    ax = axes_for(ax, (6, 4))
    cost_name = "cost"
    for (colour, dash, marker), (label, front) in zip(_cycle(len(named)), named.items()):
        points = [r for r in front if r.strategy is not None]
        if not points:
            continue
        cost_name = points[0].game.cost_name
        x, y = [r.pebbles for r in points], [r.cost for r in points]
        ax.step(x, y, where="post", color=colour, ls=dash, label=label or None)
        for r in points:
            fill = colour if r.status == "optimal" else "white"
            ax.plot(r.pebbles, r.cost, marker=marker, color=colour, markerfacecolor=fill, ls="")
    ax.set_xlabel("pebbles")
    ax.set_ylabel(cost_name)
    ax.xaxis.get_major_locator().set_params(integer=True)
    if any(named):
        legend_below(ax, 3)
    return ax


def board_data(result: GameResult, move: int) -> Data:
    """What `plot_board` draws: what lies on each node after a move, and the edges."""
    matrix = strategy_matrix(result)
    if not -matrix.shape[1] <= move < matrix.shape[1]:
        raise InvalidArgument(f"There are {matrix.shape[1] - 1} moves; there is no move {move}.")
    return {
        "nodes": list(result.board.names),
        "kinds": matrix[:, move].tolist(),
        "edges": [(u, v) for v, reads in enumerate(result.board.preds) for u in reads],
    }


@picture(board_data)
def plot_board(result: GameResult, move: int, *, ax: Any = None) -> Any:
    """The graph after a move (0: before the first), sources below; colours as in the timeline."""
    import networkx as nx

    board, data = result.board, board_data(result, move)
    ax = axes_for(ax, (5, 4))
    graph = nx.DiGraph(data["edges"])
    graph.add_nodes_from(range(len(board)))
    kinds = data["kinds"]
    for kind, shape in ((0, "o"), (1, "s"), (2, "D"), (3, "^")):
        nodes = [v for v in range(len(board)) if kinds[v] == kind]
        nx.draw_networkx_nodes(
            graph, _layout(board), nodelist=nodes, node_color=_COLOURS[kind], node_shape=shape,
            node_size=260, ax=ax,
        )  # fmt: skip
    nx.draw_networkx_edges(graph, _layout(board), ax=ax, arrowsize=8, edge_color="#777777")
    if len(board) <= 40:
        labels = dict(enumerate(board.names))
        nx.draw_networkx_labels(graph, _layout(board), labels, font_size=7, ax=ax)
    ax.set_axis_off()
    return ax


def step_through(result: GameResult) -> StepThrough:
    """A strategy move by move: a slider in a notebook, frames of text anywhere else.

    Raises
    ------
    InvalidArgument
        If there is no strategy.
    """
    shown = list(frames(result.game, result.board, _solved(result)))
    return through(shown)


def _layout(board: Board) -> dict[int, tuple[float, float]]:
    """Depth upwards, and each rank spread around the middle in its order."""
    depth: list[int] = []
    for reads in board.preds:
        depth.append(1 + max((depth[u] for u in reads), default=-1))
    ranks: dict[int, list[int]] = {}
    for v, d in enumerate(depth):
        ranks.setdefault(d, []).append(v)
    return {
        v: (i - (len(rank) - 1) / 2, float(d))
        for d, rank in ranks.items()
        for i, v in enumerate(rank)
    }


def _cycle(count: int) -> list[tuple[str, str, str]]:
    return [LINES[i % len(LINES)] for i in range(count)]
