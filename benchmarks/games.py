"""Pebble games: sizes reached against time, engines against each other, heuristics on netlists.

python benchmarks/games.py play                 a strategy of a million moves
python benchmarks/games.py reach [--limit 60]   size against time, one table for each engine
python benchmarks/games.py agree [--graphs 500] the two exact engines on random graphs
python benchmarks/games.py netlists FOLDER      the .bench files of a folder
python benchmarks/games.py --all [FOLDER]       all of it

What was run goes into its part of benchmarks/results/games.json. `--games` picks some games for
reach and agree; the rows of the others stay as they were. Seconds are those on the clock,
`processor` those of the processor: they differ where others are at work on the machine.
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
    InPlace,
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
from pebble.games.constructions.cones import cone_strategy, order_targets
from pebble.games.formulas import line_moves, reversible_moves
from pebble.games.literature.random_graphs import random_dag

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
    "reversible/visit", "reversible-inplace", "black-white", "black-white/persistent", "spooky/1",
    "red-blue", "red-blue/oneshot", "parallel-black", "reversible-parallel",
)  # fmt: skip
PATIENCE = 3600.0
"""Seconds for one point where engines must agree; none has come near."""
PUBLISHED = {
    "c17": (6, 12), "c432": (44, 859), "c499": (68, 680), "c880": (63, 1260),
}  # fmt: skip
"""Fewest pebbles, and the moves with them, that SAT-based heuristics found in two minutes for each
question: repository spooky-pebble-game of Quist and Laarman (arXiv 2401.10579)."""


def row(*cells: Any) -> None:
    widths = (24, 18, 11, 7, 10, 10, 10, 10)
    print("  ".join(f"{cell!s:<{width}}" for cell, width in zip(cells, widths)), flush=True)


def bench_play() -> list[Row]:
    strategy = bennett_strategy(2, 13)[:]
    board = Board.of(make_graph("path:8192"))
    began, cpu = time.perf_counter(), time.process_time()
    trace = play(Reversible(), board, strategy)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    million = 1e6 / len(strategy)
    print(f"play: {len(strategy):,} moves in {seconds:.2f} s, peak {trace.peak}")
    print(
        f"      1,000,000 moves take {million * seconds:.2f} s, {million * cpu:.2f} s of processor"
    )
    trace = play(Reversible(), make_graph("path:64"), knill_strategy(64, 7), pebbles=7)
    print(f"reversible path:64 with 7 pebbles: {trace.cost} moves (Knill: {line_moves(64, 7)})")
    return [
        {
            "moves": len(strategy), "seconds": round(seconds, 2), "processor": round(cpu, 2),
            "million_seconds": round(million * seconds, 2),
            "million_processor": round(million * cpu, 2),
        }
    ]  # fmt: skip


def shown(
    result: GameResult, question: str, graph: str, cpu: float, given: int | None = None
) -> Row:
    """A row of the reach tables, printed; `cpu` is the processor's clock when it began."""
    record = {
        "engine": result.engine, "question": question, "game": str(result.game), "graph": graph,
        "nodes": len(result.board), "given": given, "status": str(result.status),
        "value": result.value, "bound": result.lower_bound, "seconds": round(result.runtime, 2),
        "processor": round(time.process_time() - cpu, 2),
    }  # fmt: skip
    row(graph if given is None else f"{graph}, {given} pebbles", record["nodes"],
        record["status"], record["value"], record["bound"], record["engine"],
        record["seconds"], record["processor"])  # fmt: skip
    return record


def bench_reach(limit: float, names: Sequence[str]) -> list[Row]:
    """Sizes reached, for the games of these names."""
    rows = []
    row("graph", "nodes", "status", "value", "bound", "engine", "seconds", "processor")
    for name, graphs in (part for part in LEAST if part[0] in names):
        print(f"-- fewest pebbles, {name}")
        for graph in graphs:
            cpu = time.process_time()
            result = least_pebbles(make_graph(graph), make_game(name), time_limit=limit)
            rows.append(shown(result, "pebbles", graph, cpu))
            if result.status != "optimal":
                break
    for name, cases in (part for part in COST if part[0] in names):
        print(f"-- least cost, {name}")
        for graph, pebbles in cases:
            cpu = time.process_time()
            result = least_cost(make_graph(graph), make_game(name), pebbles, time_limit=limit)
            rows.append(shown(result, "cost", graph, cpu, pebbles))
    for name, graphs in (part for part in HEURISTIC if part[0] in names):
        print(f"-- few pebbles, {name}, heuristic")
        for graph in graphs:
            cpu = time.process_time()
            result = least_pebbles(
                make_graph(graph), make_game(name), engine="heuristic", time_limit=limit
            )
            rows.append(shown(result, "pebbles", graph, cpu))
    for graph in ("pyramid:8", "pyramid:10", "fft:3", "fft:4") if "black" in names else ():
        bench_certificate(graph)
    return rows + bench_cpsat(limit, names)


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


def bench_cpsat(limit: float, names: Sequence[str]) -> list[Row]:
    print("-- least cost, engine cpsat with the optimal number of moves as horizon")
    rows = []
    for name, cases in (part for part in CPSAT if part[0] in names):
        for graph, pebbles in cases:
            game = make_game(name)
            best = least_cost(make_graph(graph), game, pebbles, time_limit=limit)
            cpu = time.process_time()
            result = least_cost(
                make_graph(graph), game, pebbles, engine="cpsat",
                horizon=moves_of(game, best), time_limit=limit,
            )  # fmt: skip
            rows.append(shown(result, "cost", graph, cpu, pebbles))
    return rows


def bench_agree(graphs: int, largest: int, names: Sequence[str] = AGREE) -> list[Row]:
    """The front of the state search against CP-SAT: the same value within as many moves.

    CP-SAT finds the optimum T of each point and proves that fewer moves do not do.
    """
    rows = []
    for name in names:
        game, began, cpu = make_game(name), time.perf_counter(), time.process_time()
        points, rng = 0, random.Random(0)
        for number in range(graphs):
            n = rng.randint(3, largest)
            graph = random_dag(n, rng.choice((0.25, 0.4, 0.6)), seed=number, weighted=game.weighted)
            if isinstance(game, InPlace):
                game = some_in_place(Board.of(graph), rng)
            front = pareto_front(graph, game, time_limit=PATIENCE)
            assert all(point.status == "optimal" for point in front), (name, number)
            for point in front:
                twin = least_cost(
                    graph, game, point.pebbles, engine="cpsat", horizon=moves_of(game, point),
                    time_limit=PATIENCE,
                )  # fmt: skip
                assert twin.status == "optimal", (name, number, str(twin))
                assert twin.cost == point.cost, (name, number, str(twin), str(point))
                points += 1
        seconds = round(time.perf_counter() - began, 1)
        processor = round(time.process_time() - cpu, 1)
        print(f"{name:24} {graphs} graphs, {points} points of fronts agree, {seconds} s, "
              f"{processor} s of processor", flush=True)  # fmt: skip
        rows.append({"game": name, "graphs": graphs, "nodes": f"3-{largest}",
                     "points": points, "seconds": seconds, "processor": processor})  # fmt: skip
    return rows


def some_in_place(board: Board, rng: random.Random) -> InPlace:
    """The in-place game with some of the gates: with all of them most graphs are easy."""
    return InPlace(
        nodes=tuple(v for v, reads in enumerate(board.preds) if reads and rng.random() < 0.5)
    )


def bench_netlists(folder: Path, limit: float) -> list[Row]:
    """Pebbles on the move floor; moves with the fewest pebbles published; fewest pebbles."""
    rows = []
    row("netlist", "nodes", "targets", "floor", "moves", "pebbles", "seconds")
    for file in sorted(folder.glob("*.bench")):
        board = Board.of(read_bench(file))
        began, cpu = time.perf_counter(), time.process_time()
        trace = play(Reversible(), board, cone_strategy(board))
        proved = order_targets(board)[2]
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        row(file.stem, len(board), len(board.targets), reversible_moves(board), trace.cost,
            f"{trace.peak}{' (least)' if proved else ''}", round(seconds, 2))  # fmt: skip
        record = {
            "netlist": file.stem, "nodes": len(board), "targets": len(board.targets),
            "moves": trace.cost, "move_floor": reversible_moves(board), "pebbles": trace.peak,
            "proved_for_the_floor": proved, "seconds": round(seconds, 2),
            "processor": round(cpu, 2),
        }  # fmt: skip
        few = least_pebbles(board, Reversible(), time_limit=limit)
        print("  ", few)
        record |= {
            "fewest_pebbles": few.pebbles, "fewest_bound": few.lower_bound,
            "their_moves": few.cost,
        }  # fmt: skip
        if file.stem in PUBLISHED:
            record |= beside_published(board, *PUBLISHED[file.stem], limit)
        rows.append(record)
    return rows


def beside_published(board: Board, pebbles: int, moves: int, limit: float) -> Row:
    """Our moves with the fewest pebbles published."""
    ours = least_cost(board, Reversible(), pebbles, time_limit=limit)
    print(f"   with {pebbles} pebbles {ours.cost} moves, published {moves}")
    return {
        "published_pebbles": pebbles, "published_moves": moves, "moves_with_these": ours.cost,
        "status_with_these": str(ours.status), "bound_with_these": ours.lower_bound,
    }  # fmt: skip


def write(file: Path, part: str, rows: list[Row], **options: Any) -> None:
    """Put rows into their part of the results; the other parts stay as they are."""
    results = json.loads(file.read_text()) if file.exists() else {}
    if part in ("agree", "reach"):  # game by game, as it takes long
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
    parser.add_argument("--games", help="games for reach and agree, with commas (default: all)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--all", type=Path, nargs="?", const=Path(), metavar="FOLDER")
    args = parser.parse_args()
    if args.what is None and args.all is None:
        parser.error("say what to run, or --all")
    wanted = (args.what,) if args.all is None else ("play", "reach", "netlists", "agree")
    chosen = args.games.split(",") if args.games else None
    if "play" in wanted:
        write(args.output, "play", bench_play())
    if "reach" in wanted:
        parts = (*LEAST, *COST, *HEURISTIC, *CPSAT)
        for name in chosen or dict.fromkeys(name for name, _ in parts):
            rows = bench_reach(args.limit, [name])
            write(args.output, "reach", rows, limit_seconds=args.limit)
    if "netlists" in wanted:
        folder = args.folder or args.all or Path()
        write(args.output, "netlists", bench_netlists(folder, args.limit))
    if "agree" in wanted:
        for name in chosen or AGREE:
            write(args.output, "agree", bench_agree(args.graphs, args.largest, [name]))


if __name__ == "__main__":
    main()
