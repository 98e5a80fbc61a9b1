"""Pebble games: sizes reached against time, engines against each other, heuristics on netlists.

python benchmarks/games.py play                 a strategy of a million moves
python benchmarks/games.py reach [--limit 60]   size against time, one table for each engine
python benchmarks/games.py agree [--graphs 500] the two exact engines on random graphs
python benchmarks/games.py netlists FOLDER      the .bench files of a folder
python benchmarks/games.py --all [FOLDER]       all of it
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pebble.games import (
    Board,
    Reversible,
    bennett_strategy,
    certify,
    check_certificate,
    knill_strategy,
    least_cost,
    least_pebbles,
    make_game,
    make_graph,
    pareto_front,
    play,
    read_bench,
)
from pebble.games.families import random_dag
from pebble.games.formulas import line_moves, reversible_moves
from pebble.games.heuristics import cone_strategy, order_targets

LEAST = (  # question, game, graphs of growing size
    ("fewest pebbles", "black", [f"pyramid:{h}" for h in (4, 6, 7, 8, 9, 10)]),
    ("fewest pebbles", "black", [f"fft:{k}" for k in (2, 3)]),
    ("fewest pebbles", "black", [f"grid:{n}x{n}" for n in (4, 5, 6, 7, 8)]),
    ("fewest pebbles", "black/oneshot", [f"layered:{n}x5x0" for n in (40, 50, 60, 64)]),
    ("fewest pebbles", "black-white", [f"pyramid:{h}" for h in (3, 4, 5)]),
    ("fewest pebbles", "reversible", [f"pyramid:{h}" for h in (3, 4, 5, 6)]),
    ("fewest pebbles", "reversible", [f"path:{n}" for n in (16, 24, 32, 40)]),
    ("fewest pebbles", "spooky", [f"path:{n}" for n in (8, 10, 12)]),
)
COST = (  # game, (graph, pebbles) of growing size
    ("black", [("trainchain:16", 5), ("trainchain:24", 5), ("trainchain:31", 5)]),
    ("reversible", [("path:16", 6), ("path:24", 7), ("path:32", 7)]),
    ("red-blue", [("matmul:2x2x2", 4), ("matmul:2x3x2", 5), ("matmul:3x3x3", 8)]),
)
AGREE = (
    "black", "black/slide", "black/final", "black/oneshot", "black-weighted", "reversible",
    "reversible/visit", "black-white", "black-white/persistent", "spooky/1", "red-blue",
    "red-blue/oneshot", "parallel-black", "reversible-parallel",
)  # fmt: skip


def row(*cells: Any) -> None:
    widths = (24, 18, 11, 7, 10, 10, 10)
    print("  ".join(f"{cell!s:<{width}}" for cell, width in zip(cells, widths)), flush=True)


def bench_play() -> None:
    strategy = bennett_strategy(2, 13)[:]
    board = Board.of(make_graph("path:8192"))
    began = time.perf_counter()
    trace = play(Reversible(), board, strategy)
    seconds = time.perf_counter() - began
    print(f"play: {len(strategy):,} moves in {seconds:.2f} s, peak {trace.peak}")
    print(f"      1,000,000 moves take {1e6 * seconds / len(strategy):.2f} s")
    began = time.perf_counter()
    trace = play(Reversible(), make_graph("path:64"), knill_strategy(64, 7), pebbles=7)
    print(f"reversible path:64 with 7 pebbles: {trace.cost} moves (Knill: {line_moves(64, 7)})")


def bench_reach(limit: float) -> None:
    row("graph", "game", "status", "value", "bound", "engine", "seconds")
    for question, name, graphs in LEAST:
        print(f"-- {question}, {name}")
        for graph in graphs:
            result = least_pebbles(make_graph(graph), make_game(name), time_limit=limit)
            row(graph, name, result.status, result.value, result.lower_bound, result.engine,
                f"{result.runtime:.2f}")  # fmt: skip
            if result.status != "optimal":
                break
    for name, cases in COST:
        print(f"-- least cost, {name}")
        for graph, pebbles in cases:
            result = least_cost(make_graph(graph), make_game(name), pebbles, time_limit=limit)
            row(f"{graph}, {pebbles} pebbles", name, result.status, result.value,
                result.lower_bound, result.engine, f"{result.runtime:.2f}")  # fmt: skip
    for graph in ("pyramid:8", "pyramid:10", "fft:3", "fft:4"):
        bench_certificate(graph)
    bench_cpsat(limit)


def bench_certificate(graph: str) -> None:
    game, board = make_game("black"), Board.of(make_graph(graph))
    began = time.perf_counter()
    certificate = certify(game, board)
    if certificate is None:
        print(f"certificate {graph}: too many paths")
        return
    check_certificate(board, certificate)
    seconds = time.perf_counter() - began
    print(f"certificate {graph}: {certificate.bound(game)} pebbles are needed, checked over "
          f"{len(certificate.side_paths)} paths in {seconds:.2f} s")  # fmt: skip


def bench_cpsat(limit: float) -> None:
    print("-- least cost, engine cpsat with the optimal number of moves as horizon")
    for name, graph, pebbles in (
        ("reversible", "path:8", 4), ("reversible", "path:12", 5), ("reversible", "path:16", 5),
        ("black", "pyramid:4", 6), ("black", "trainchain:8", 4), ("red-blue", "tree:2x3", 3),
    ):  # fmt: skip
        game = make_game(name)
        best = least_cost(make_graph(graph), game, pebbles, time_limit=limit)
        moves = sum(name == "reversible" or move.act != "remove" for move in best.strategy or ())
        result = least_cost(
            make_graph(graph), game, pebbles, engine="cpsat", horizon=moves, time_limit=limit
        )
        row(f"{graph}, {pebbles} pebbles", name, result.status, result.value,
            result.lower_bound, f"T={moves}", f"{result.runtime:.2f}")  # fmt: skip


def bench_agree(graphs: int, largest: int, names: Sequence[str] = AGREE) -> None:
    for name in names:
        game, began, points = make_game(name), time.perf_counter(), 0
        rng = random.Random(0)
        for number in range(graphs):
            n = rng.randint(3, 6 if game.parallel else largest)
            graph = random_dag(n, rng.choice((0.25, 0.4, 0.6)), seed=number, weighted=game.weighted)
            front = pareto_front(graph, game)
            assert all(point.status == "optimal" for point in front), (name, number)
            for point in front:
                moves = sum(getattr(m, "act", "") != "remove" for m in point.strategy or ())
                steps = point.trace.time if game.cost_name == "moves" or game.parallel else moves
                twin = least_cost(
                    graph, game, point.pebbles, engine="cpsat", horizon=steps, time_limit=60
                )
                assert twin.status == "optimal", (name, number, str(twin))
                assert twin.cost == point.cost, (name, number, str(twin), str(point))
                points += 1
        print(f"{name:24} {graphs} graphs, {points} points of fronts agree, "
              f"{time.perf_counter() - began:.1f} s", flush=True)  # fmt: skip


def bench_netlists(folder: Path) -> None:
    row("netlist", "nodes", "targets", "floor", "moves", "pebbles", "seconds")
    for file in sorted(folder.glob("*.bench")):
        graph = read_bench(file)
        board = Board.of(graph)
        began = time.perf_counter()
        trace = play(Reversible(), board, cone_strategy(board))
        proved = order_targets(board)[2]
        row(file.stem, len(board), len(board.targets), reversible_moves(board), trace.cost,
            f"{trace.peak}{' (least)' if proved else ''}",
            f"{time.perf_counter() - began:.2f}")  # fmt: skip
        if len(board) <= 64:
            print("  ", least_pebbles(board, Reversible()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=("play", "reach", "agree", "netlists"))
    parser.add_argument("folder", nargs="?", type=Path, help="folder of .bench files")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one question")
    parser.add_argument("--graphs", type=int, default=500)
    parser.add_argument("--largest", type=int, default=10)
    parser.add_argument("--games", default=",".join(AGREE), help="games for agree, with commas")
    parser.add_argument("--all", type=Path, nargs="?", const=Path(), metavar="FOLDER")
    args = parser.parse_args()
    if args.what is None and args.all is None:
        parser.error("say what to run, or --all")
    folder = args.folder or args.all or Path()
    if args.what == "play" or args.all is not None:
        bench_play()
    if args.what == "reach" or args.all is not None:
        bench_reach(args.limit)
    if args.what == "netlists" or args.all is not None:
        bench_netlists(folder)
    if args.what == "agree" or args.all is not None:
        bench_agree(args.graphs, args.largest, args.games.split(","))


if __name__ == "__main__":
    main()
