"""The command ``pebble game``: solve a game on a family or a file and show the strategy.

``pebble game reversible path:16 --pebbles 6`` looks for the least cost with six pebbles; without
``--pebbles`` for the fewest pebbles; ``--front`` for all trade-offs between the two.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from pebble.cli.arguments import NOT_SOLVED, SOLVED
from pebble.errors import InvalidArgument
from pebble.games.frames import LEGEND, frames
from pebble.games.literature.families import FAMILIES
from pebble.games.literature.named_graphs import make_graph
from pebble.games.literature.sizes import MOST
from pebble.games.moves import Step
from pebble.games.naming import GAMES, make_game
from pebble.games.solving import ENGINES, GameResult, least_cost, least_pebbles, pareto_front
from pebble.schema import shortened

_SHOWN = 400
_MOST_VARIABLES = 250_000
"""Of engine cpsat, one a move and node: about a gigabyte."""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add ``game`` to the commands; its ``run`` is set."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "game", help="solve a pebble game and show the strategy"
    )
    parser.add_argument(
        "game",
        help=f"one of {', '.join(GAMES)}, with options as in black/slide/oneshot/visit",
    )
    parser.add_argument(
        "graph",
        help=f"a family as in pyramid:4 ({', '.join(FAMILIES)}), a .bench netlist or a JSON graph",
    )
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument("--pebbles", type=int, metavar="K", help="least cost with K pebbles")
    goal.add_argument("--front", action="store_true", help="all trade-offs of pebbles and cost")
    parser.add_argument(
        "--engine", default="auto", help=f"auto, {', '.join(ENGINES)} (default: auto)"
    )
    parser.add_argument("--horizon", type=int, metavar="T", help="most moves for engine cpsat")
    parser.add_argument("--time-limit", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Solve, write the answer to standard output, and return 0 (solved) or 1 (not solved).

    Raises
    ------
    PebbleError
        For a wrong game, graph or engine; the command line turns it into exit status 2.
    """
    status, text = answer(args)
    sys.stdout.write(text + "\n")
    return status


def answer(args: argparse.Namespace) -> tuple[int, str]:
    """(exit status, text) for parsed arguments."""
    _check_number("--pebbles", args.pebbles, 1, MOST["nodes"])
    game, graph = make_game(args.game), make_graph(args.graph)
    _check_number("--horizon", args.horizon, 0, max(_MOST_VARIABLES // len(graph.ops), 1))
    options: dict[str, Any] = {
        "engine": args.engine,
        "time_limit": args.time_limit,
        "horizon": args.horizon,
        "seed": args.seed,
    }
    if args.front:
        front = pareto_front(graph, game, **options)
        text = json.dumps([data(r) for r in front]) if args.json else _table(front)
        return (SOLVED if front else NOT_SOLVED), text
    if args.pebbles is None:
        result = least_pebbles(graph, game, **options)
    else:
        result = least_cost(graph, game, args.pebbles, **options)
    text = json.dumps(data(result)) if args.json else _shown(result)
    return (NOT_SOLVED if result.strategy is None else SOLVED), text


def _check_number(name: str, number: int | None, least: int, most: int) -> None:
    if number is not None and not least <= number <= most:
        raise InvalidArgument(
            f"{name} is {shortened(number)}; it must be a number from {least} to {most:,}."
        )


def data(result: GameResult) -> dict[str, Any]:
    """A result as plain data."""
    return {
        "game": str(result.game),
        "graph": result.board.name,
        "objective": result.objective,
        "status": str(result.status),
        "pebbles": result.pebbles,
        "cost": result.cost,
        "cost_name": result.game.cost_name,
        "lower_bound": result.lower_bound,
        "horizon": result.horizon,
        "engine": result.engine,
        "states": result.states,
        "runtime": round(result.runtime, 3),
        "message": result.message,
        "strategy": None if result.strategy is None else [_plain(m) for m in result.strategy],
    }


def _plain(move: Any) -> list[Any]:
    if isinstance(move, Step):
        return [list(move.place), list(move.remove)]
    return [str(move.act), move.node] + ([move.source] if move.source >= 0 else [])


def _shown(result: GameResult) -> str:
    lines = [str(result)]
    if result.strategy is not None and len(result.strategy) <= _SHOWN:
        lines += frames(result.game, result.board, result.strategy)
        if result.game.title in LEGEND:
            lines.append(LEGEND[result.game.title])
    elif result.strategy is not None:
        lines.append(f"{len(result.strategy)} moves; --json prints them.")
    return "\n".join(lines)


def _table(front: tuple[GameResult, ...]) -> str:
    if not front:
        return "No strategy was found."
    head = f"{'pebbles':>8}  {front[0].game.cost_name:>12}  status"
    rows = [f"{r.pebbles:8}  {r.cost:12}  {r.status}" for r in front]
    return "\n".join([f"{front[0].game} on {front[0].board.name}", head, *rows])
