"""Pebble games: sizes reached against time, engines against each other, heuristics on netlists.

python benchmarks/games.py play                 a strategy of a million moves
python benchmarks/games.py reach [--limit 60]   size against time, one table for each engine
python benchmarks/games.py agree [--graphs 500] the two exact engines on random graphs
python benchmarks/games.py netlists FOLDER      the .bench files of a folder
python benchmarks/games.py --all [FOLDER]       all of it

What was run goes into its part of benchmarks/results/games.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from pebble.games import (
    Board,
    Game,
    GameResult,
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
from pebble.games.floors import floor_of_cost
from pebble.games.formulas import line_moves, reversible_moves
from pebble.games.heuristics import cone_strategy, order_targets

RESULTS = Path(__file__).parent / "results" / "games.json"
Row = dict[str, Any]

LEAST = (  # game, graphs of growing size: the fewest pebbles, until one is not proved in time
    ("black", [f"pyramid:{h}" for h in (4, 6, 8, 9, 10)]),
    ("black", [f"fft:{k}" for k in (2, 3)]),
    ("black", [f"grid:{n}x{n}" for n in (4, 5, 6, 7)]),
    ("black/oneshot", [f"layered:{n}x5x{seed}" for n in (40, 50, 60) for seed in range(4)]),
    ("black/oneshot", ["matmul:2x2x2", "matmul:2x3x2", "matmul:3x3x3"]),
    ("black-white", [f"pyramid:{h}" for h in (3, 4, 5, 6)]),
    ("reversible", [f"pyramid:{h}" for h in (3, 4, 5, 6)]),
    ("reversible", [f"path:{n}" for n in (16, 24, 32, 40)]),
    ("spooky", [f"path:{n}" for n in (8, 10, 12, 14)]),
    ("parallel-black", [f"pyramid:{h}" for h in (2, 3, 4, 5)]),
    ("parallel-black", [f"tree:2x{h}" for h in (2, 3, 4)]),
    ("reversible-parallel", [f"path:{n}" for n in (8, 16, 24, 32)]),
    ("reversible-parallel", [f"pyramid:{h}" for h in (2, 3, 4, 5)]),
)
COST = (  # game, (graph, pebbles) of growing size: the least cost
    ("black", [("trainchain:16", 5), ("trainchain:24", 5), ("trainchain:31", 5)]),
    ("reversible", [("path:16", 6), ("path:24", 7), ("path:32", 7)]),
    ("red-blue", [("matmul:2x2x2", 4), ("matmul:2x3x2", 5), ("matmul:3x3x3", 8)]),
    ("parallel-black", [("pyramid:3", 5), ("pyramid:4", 6), ("pyramid:5", 7)]),
    ("reversible-parallel", [("path:8", 5), ("path:16", 6), ("path:24", 7), ("path:32", 8)]),
)
CPSAT = (  # game, (graph, pebbles): confirmed within the optimal number of moves
    ("reversible", [("path:8", 4), ("path:12", 5), ("path:16", 5)]),
    ("black", [("pyramid:4", 6), ("pyramid:5", 7), ("trainchain:8", 4), ("trainchain:12", 5)]),
    ("black-white", [("pyramid:2", 3), ("pyramid:3", 4), ("pyramid:4", 5)]),
    ("red-blue", [("tree:2x3", 3), ("fft:2", 4)]),
    ("parallel-black", [("pyramid:2", 3), ("pyramid:3", 4)]),
)
HEURISTIC = (  # game, graphs beyond the exact engines
    ("black", ["pyramid:20", "grid:20x20", "fft:6", "layered:400x10x0"]),
    ("reversible", ["path:200", "pyramid:12", "fft:5"]),
)
AGREE = (
    "black", "black/slide", "black/final", "black/oneshot", "black-weighted", "reversible",
    "reversible/visit", "black-white", "black-white/persistent", "spooky/1", "red-blue",
    "red-blue/oneshot", "parallel-black", "reversible-parallel",
)  # fmt: skip
PARALLEL = 8
"""Most nodes of the random graphs for parallel games."""
WIDE = 2
"""Moves above the floor up to which CP-SAT confirms or refutes in the black-white games."""


def row(*cells: Any) -> None:
    widths = (24, 18, 11, 7, 10, 10, 10)
    print("  ".join(f"{cell!s:<{width}}" for cell, width in zip(cells, widths)), flush=True)


def bench_play() -> list[Row]:
    strategy = bennett_strategy(2, 13)[:]
    board = Board.of(make_graph("path:8192"))
    began = time.perf_counter()
    trace = play(Reversible(), board, strategy)
    seconds = time.perf_counter() - began
    print(f"play: {len(strategy):,} moves in {seconds:.2f} s, peak {trace.peak}")
    print(f"      1,000,000 moves take {1e6 * seconds / len(strategy):.2f} s")
    trace = play(Reversible(), make_graph("path:64"), knill_strategy(64, 7), pebbles=7)
    print(f"reversible path:64 with 7 pebbles: {trace.cost} moves (Knill: {line_moves(64, 7)})")
    return [{"moves": len(strategy), "seconds": round(seconds, 2)}]


def shown(result: GameResult, question: str, graph: str, given: int | None = None) -> Row:
    """A row of the reach tables, printed."""
    record = {
        "engine": result.engine, "question": question, "game": str(result.game), "graph": graph,
        "nodes": len(result.board), "given": given, "status": str(result.status),
        "value": result.value, "bound": result.lower_bound, "seconds": round(result.runtime, 2),
    }  # fmt: skip
    row(graph if given is None else f"{graph}, {given} pebbles", record["nodes"],
        record["status"], record["value"], record["bound"], record["engine"],
        record["seconds"])  # fmt: skip
    return record


def bench_reach(limit: float) -> list[Row]:
    rows = []
    row("graph", "nodes", "status", "value", "bound", "engine", "seconds")
    for name, graphs in LEAST:
        print(f"-- fewest pebbles, {name}")
        for graph in graphs:
            result = least_pebbles(make_graph(graph), make_game(name), time_limit=limit)
            rows.append(shown(result, "pebbles", graph))
            if result.status != "optimal":
                break
    for name, cases in COST:
        print(f"-- least cost, {name}")
        for graph, pebbles in cases:
            result = least_cost(make_graph(graph), make_game(name), pebbles, time_limit=limit)
            rows.append(shown(result, "cost", graph, pebbles))
    for name, graphs in HEURISTIC:
        print(f"-- few pebbles, {name}, heuristic")
        for graph in graphs:
            result = least_pebbles(
                make_graph(graph), make_game(name), engine="heuristic", time_limit=limit
            )
            rows.append(shown(result, "pebbles", graph))
    for graph in ("pyramid:8", "pyramid:10", "fft:3", "fft:4"):
        bench_certificate(graph)
    return rows + bench_cpsat(limit)


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


def moves_of(game: Game, point: GameResult) -> int:
    """Moves as the engine cpsat counts them."""
    if game.cost_name == "moves" or game.parallel:
        return len(point.strategy or ())
    return sum(move.act != "remove" for move in point.strategy or ())


def bench_cpsat(limit: float) -> list[Row]:
    print("-- least cost, engine cpsat with the optimal number of moves as horizon")
    rows = []
    for name, cases in CPSAT:
        for graph, pebbles in cases:
            game = make_game(name)
            best = least_cost(make_graph(graph), game, pebbles, time_limit=limit)
            result = least_cost(
                make_graph(graph), game, pebbles, engine="cpsat",
                horizon=moves_of(game, best), time_limit=limit,
            )  # fmt: skip
            rows.append(shown(result, "cost", graph, pebbles))
    return rows


def bench_agree(graphs: int, largest: int, names: Sequence[str] = AGREE) -> list[Row]:
    """The front of the state search against CP-SAT: the same value within as many moves.

    CP-SAT finds the optimum T and proves that fewer moves do not do. Where T of a black-white game
    is more than `WIDE` moves above what any strategy takes, it only proves that so many above do
    not do; these points are counted apart.
    """
    rows = []
    for name in names:
        game, began = make_game(name), time.perf_counter()
        points = refuted = 0
        rng, most = random.Random(0), min(largest, PARALLEL) if game.parallel else largest
        for number in range(graphs):
            n = rng.randint(3, most)
            graph = random_dag(n, rng.choice((0.25, 0.4, 0.6)), seed=number, weighted=game.weighted)
            front = pareto_front(graph, game)
            assert all(point.status == "optimal" for point in front), (name, number)
            for point in front:
                horizon = steps = moves_of(game, point)
                if name.startswith("black-white"):
                    horizon = min(steps, floor_of_cost(game, point.board) + WIDE)
                twin = least_cost(
                    graph, game, point.pebbles, engine="cpsat", horizon=horizon, time_limit=120
                )
                if horizon < steps:
                    assert twin.status == "infeasible", (name, number, str(twin), str(point))
                    refuted += 1
                else:
                    assert twin.status == "optimal", (name, number, str(twin))
                    assert twin.cost == point.cost, (name, number, str(twin), str(point))
                points += 1
        seconds = round(time.perf_counter() - began, 1)
        beyond = (
            f", {refuted} of them refuted up to {WIDE} moves above the floor" if refuted else ""
        )
        print(f"{name:24} {graphs} graphs, {points} points of fronts agree{beyond}, {seconds} s",
              flush=True)  # fmt: skip
        rows.append({"game": name, "graphs": graphs, "nodes": f"3-{most}",
                     "points": points, "refuted_only": refuted, "seconds": seconds})  # fmt: skip
    return rows


def bench_netlists(folder: Path) -> list[Row]:
    rows = []
    row("netlist", "nodes", "targets", "floor", "moves", "pebbles", "seconds")
    for file in sorted(folder.glob("*.bench")):
        board = Board.of(read_bench(file))
        began = time.perf_counter()
        trace = play(Reversible(), board, cone_strategy(board))
        proved = order_targets(board)[2]
        seconds = round(time.perf_counter() - began, 2)
        row(file.stem, len(board), len(board.targets), reversible_moves(board), trace.cost,
            f"{trace.peak}{' (least)' if proved else ''}", seconds)  # fmt: skip
        few = least_pebbles(board, Reversible())
        print("  ", few)
        rows.append({
            "netlist": file.stem, "nodes": len(board), "targets": len(board.targets),
            "moves": trace.cost, "move_floor": reversible_moves(board), "pebbles": trace.peak,
            "proved_for_the_floor": proved, "fewest_pebbles": few.pebbles,
            "fewest_bound": few.lower_bound, "their_moves": few.cost, "seconds": seconds,
        })  # fmt: skip
    return rows


def write(file: Path, part: str, rows: list[Row], **options: Any) -> None:
    """Put rows into their part of the results; the other parts stay as they are."""
    results = json.loads(file.read_text()) if file.exists() else {}
    if part == "agree":  # game by game, as it takes long
        done = {r["game"] for r in rows}
        rows = [r for r in results.get(part, {}).get("rows", []) if r["game"] not in done] + rows
    load = round(os.getloadavg()[1], 1)  # others at work on the machine make all times longer
    results[part] = {"date": date.today().isoformat(), "load": load, **options, "rows": rows}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(results, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=("play", "reach", "agree", "netlists"))
    parser.add_argument("folder", nargs="?", type=Path, help="folder of .bench files")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds for one question")
    parser.add_argument("--graphs", type=int, default=500)
    parser.add_argument("--largest", type=int, default=10)
    parser.add_argument("--games", default=",".join(AGREE), help="games for agree, with commas")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--all", type=Path, nargs="?", const=Path(), metavar="FOLDER")
    args = parser.parse_args()
    if args.what is None and args.all is None:
        parser.error("say what to run, or --all")
    wanted = (args.what,) if args.all is None else ("play", "reach", "netlists", "agree")
    if "play" in wanted:
        write(args.output, "play", bench_play())
    if "reach" in wanted:
        write(args.output, "reach", bench_reach(args.limit), limit_seconds=args.limit)
    if "netlists" in wanted:
        write(args.output, "netlists", bench_netlists(args.folder or args.all or Path()))
    if "agree" in wanted:
        for name in args.games.split(","):
            write(args.output, "agree", bench_agree(args.graphs, args.largest, [name]))


if __name__ == "__main__":
    main()
