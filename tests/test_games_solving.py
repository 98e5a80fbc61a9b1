"""Solving: statuses, bounds and scopes, engines by name or callable, limits, the command, plots."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from typing import Any

import networkx as nx
import pytest

from pebble.errors import GraphError, IllegalMove, InvalidArgument, UnknownSolver
from pebble.games import (
    Black,
    Board,
    Found,
    Game,
    ParallelBlack,
    RedBlue,
    Reversible,
    frames,
    knill_strategy,
    least_cost,
    least_pebbles,
    make_game,
    make_graph,
    pareto_front,
    place,
    play,
    remove,
)
from pebble.games.command import add_parser, answer
from pebble.games.constructions.orders import red_blue_strategy, search_order
from pebble.games.exact.search import search
from pebble.games.formulas import line_moves
from pebble.solver import Status


def test_from_networkx_in_a_few_lines() -> None:
    graph = nx.DiGraph([("a", "c"), ("b", "c"), ("c", "d"), ("b", "d")])
    result = least_pebbles(graph, Black())
    assert (result.pebbles, result.status, result.gap) == (3, Status.OPTIMAL, 0.0)
    assert play(Black(), graph, result.strategy).peak == 3
    assert "optimal, 3 pebbles" in str(result)


def test_statuses_tell_their_scope() -> None:
    graph = make_graph("path:6")
    proved = least_cost(graph, Reversible(), 3)
    assert (proved.status, proved.horizon) == (Status.INFEASIBLE, None)
    assert "no strategy does with 3 pebbles" in proved.message
    within = least_cost(graph, Reversible(), 3, engine="cpsat", horizon=9)
    assert (within.status, within.horizon) == (Status.INFEASIBLE, 9)
    assert "no strategy of at most 9 moves" in within.message
    assert "within 9 moves" in str(within)
    short = least_cost(graph, Reversible(), 6, engine="cpsat", horizon=10)
    assert short.status is Status.INFEASIBLE  # the least is 11
    oneshot = least_pebbles(graph, Black(recompute=False), engine="cpsat")
    assert (oneshot.pebbles, oneshot.status, oneshot.horizon) == (2, Status.OPTIMAL, None)


def test_limits_leave_a_strategy_and_a_bound() -> None:
    graph = make_graph("pyramid:9")
    result = least_cost(graph, Reversible(), 30, time_limit=1.0)
    assert result.runtime < 6
    assert result.status in (Status.FEASIBLE, Status.NOT_FOUND)
    assert result.lower_bound >= 2 * 55 - 1
    board = Board.of(graph)
    stopped = search(Reversible(), board, 30, max_states=2000)
    assert (stopped.strategy, stopped.complete, stopped.infeasible) == (None, False, False)
    assert stopped.bound >= 109


def test_engines_by_name_or_callable() -> None:
    graph = make_graph("path:4")

    def knill(game: Game, board: Board, pebbles: int, **options: Any) -> Found:
        """Somebody else's engine."""
        try:
            strategy = knill_strategy(len(board), pebbles)
        except InvalidArgument:
            return Found(None, infeasible=True, complete=True)
        return Found(strategy, len(strategy), complete=True)

    own = least_cost(graph, Reversible(), 3, engine=knill)
    assert (own.cost, own.engine, own.status) == (9, "knill", Status.OPTIMAL)
    assert least_pebbles(graph, Reversible(), engine=knill).pebbles == 3
    with pytest.raises(UnknownSolver, match="choose auto, search, cpsat, heuristic"):
        least_cost(graph, Reversible(), 3, engine="magic")


def test_an_engine_that_cheats_is_caught() -> None:
    def cheat(game: Game, board: Board, pebbles: int, **options: Any) -> Found:
        return Found((place(3),), 1, complete=True)

    with pytest.raises(IllegalMove):
        least_cost(make_graph("path:4"), Black(), 1, engine=cheat)


def test_fronts_are_strictly_monotone_and_complete() -> None:
    front = pareto_front(make_graph("path:9"), Reversible())
    pairs = [(r.pebbles, r.cost) for r in front]
    assert pairs == [(k, line_moves(9, k)) for k in range(5, 10)]
    assert all(r.status is Status.OPTIMAL for r in front)
    assert pairs[0][0] == least_pebbles(make_graph("path:9"), Reversible()).pebbles
    weighted = pareto_front(make_graph("trainchain:5"), Black(weighted=True))
    assert _monotone([(r.pebbles, r.cost) for r in weighted])


def _monotone(pairs: list[tuple[Any, Any]]) -> bool:
    return all(a < c and b > d for (a, b), (c, d) in zip(pairs, pairs[1:]))  # noqa: RUF007


def test_heuristics_against_the_optimum() -> None:
    for seed in range(4):
        board = Board.of(make_graph(f"layered:30x5x{seed}"))
        once = Black(recompute=False)
        best = least_pebbles(board, once)
        assert best.status is Status.OPTIMAL
        _, peak = search_order(board, once, deadline=float("inf"), enough=best.pebbles)
        assert best.pebbles <= peak <= best.pebbles + 1
    board = Board.of(make_graph("matmul:2x2x2"))
    strategy = red_blue_strategy(RedBlue(), board, 4, deadline=0.0)
    assert strategy is not None
    found = play(RedBlue(), board, strategy, pebbles=4).cost
    optimum = least_cost(board, RedBlue(), 4).cost
    assert optimum is not None
    assert optimum <= found <= optimum + 3


def test_large_boards_fall_back_on_constructions() -> None:
    line = make_graph("path:200")
    parallel = ("parallel-black", "reversible-parallel")
    for name in ("reversible", "black", "black-white", "spooky/0", *parallel):
        result = least_pebbles(line, make_game(name), time_limit=4)
        assert result.engine == "heuristic"
        assert result.strategy is not None
        assert result.lower_bound <= (result.pebbles or 0)
    assert least_pebbles(line, Black(), time_limit=4).status is Status.OPTIMAL
    with pytest.raises(InvalidArgument, match="at most 64 nodes"):
        search(Black(), Board.of(line), 3)
    with pytest.raises(InvalidArgument, match="at most 64 nodes"):
        search(ParallelBlack(), Board.of(line), 3)


@pytest.mark.parametrize(
    ("name", "game", "pebbles", "cost"),
    [
        ("pyramid:5", "parallel-black", 6, 21),
        ("tree:2x3", "parallel-black", 4, 15),
        ("path:16", "reversible-parallel", 5, 31),
        ("pyramid:4", "reversible-parallel", 7, 9),
    ],
)
def test_parallel_games_on_larger_boards(name: str, game: str, pebbles: int, cost: int) -> None:
    few = least_pebbles(make_graph(name), make_game(game))
    cheap = least_cost(make_graph(name), make_game(game))
    assert (few.pebbles, few.status) == (pebbles, Status.OPTIMAL)
    assert (cheap.cost, cheap.status) == (cost, Status.OPTIMAL)


@pytest.mark.parametrize("seed", range(3))
def test_one_shot_peaks_of_layered_graphs(seed: int) -> None:
    result = least_pebbles(make_graph(f"layered:60x5x{seed}"), Black(recompute=False))
    assert result.status is Status.OPTIMAL


# -- command and frames --------------------------------------------------------------------------


def arguments(line: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return parser.parse_args(["game", *line.split()])


def test_command_prints_frames(capsys: pytest.CaptureFixture[str]) -> None:
    args = arguments("reversible path:16 --pebbles 6")
    assert args.run(args) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("reversible/persistent on path:16: optimal, 6 pebbles, 51 moves")
    assert len(lines) == 53
    assert lines[-1].split()[1:3] == ["." * 15 + "#", "1"]


def test_command_speaks_json() -> None:
    status, text = answer(arguments("red-blue tree:2x2 --pebbles 3 --json"))
    data = json.loads(text)
    assert (status, data["cost"], data["cost_name"]) == (0, 7, "transfers")
    assert data["status"] == "optimal"
    assert data["strategy"][0] == ["load", 0]
    status, text = answer(arguments("reversible path:4 --front --json"))
    assert [(r["pebbles"], r["cost"]) for r in json.loads(text)] == [(3, 9), (4, 7)]
    assert "3             9  optimal" in answer(arguments("reversible path:4 --front"))[1]


def test_command_statuses() -> None:
    assert answer(arguments("black pyramid:2 --pebbles 2"))[0] == 1
    assert answer(arguments("parallel-black path:3"))[0] == 0
    with pytest.raises(InvalidArgument, match="no game"):
        answer(arguments("chess pyramid:2"))
    with pytest.raises(InvalidArgument, match="neither a file nor a family"):
        answer(arguments("black castle"))
    with pytest.raises(SystemExit):
        arguments("black pyramid:2 --pebbles 2 --front")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("reversible pyramid", "write pyramid:HEIGHT with whole numbers."),
        ("reversible pyramid:x", "write pyramid:HEIGHT with whole numbers."),
        ("reversible matmul:3", "write matmul:ROWSxINNERxCOLUMNS with whole numbers."),
        ("black layered:9x2x1x4", "(WIDTH and SEED may be left out)."),
        ("reversible path:0", "The number of nodes is 0; it must be at least 1."),
        ("reversible missing.bench", "There is no file 'missing.bench'."),
        ("reversible .", "is a folder"),
        ("spooky/few path:3", "has no option 'few'; options are"),
        ("reversible path:4 --pebbles 0", "--pebbles is 0; a game takes at least 1."),
        ("reversible path:4 --time-limit nan", "The time limit is nan; it must be positive"),
        ("reversible path:4 --engine cpsat --horizon -1", "The horizon is -1"),
    ],
)
def test_command_says_what_is_wrong(line: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(sentence)):
        answer(arguments(line))


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.bench", b"INPUT(a)\nOUTPUT(z)\nx = OR(a, z)\nz = AND(x, a)\n", "form a loop through"),
        ("a.bench", b"INPUT(a)\n", "has no gate"),
        ("a.bench", b"\xff\x00", "is no text"),
        ("a.json", b'{"n": 3, "edges": [[0, 1], [1, 2], [2, 0]]}', "the edges form a loop"),
        ("a.json", b'{"n": 3, "edges": [[0, 7]]}', "pair of numbers from 0 to 2"),
        ("a.json", b'{"n": 3, "edges": 5}', "pair of numbers from 0 to 2"),
        ("a.json", b'{"n": "3", "edges": []}', "n is '3'"),
        ("a.json", b'{"n": 3, "edges": [[0, 1]], "targets": [3]}', "target 3 is no node"),
    ],
)
def test_command_says_what_is_wrong_in_a_file(
    tmp_path: Any, name: str, text: bytes, sentence: str
) -> None:
    file = tmp_path / name
    file.write_bytes(text)
    with pytest.raises(GraphError, match=re.escape(sentence)):
        answer(arguments(f"reversible {file}"))


def test_edges_may_come_in_any_order(tmp_path: Any) -> None:
    file = tmp_path / "line.json"
    file.write_text(json.dumps({"n": 3, "edges": [[2, 0], [0, 1]], "targets": [1]}))
    board = Board.of(make_graph(str(file)))
    assert (board.names, board.preds, board.targets) == (("2", "0", "1"), ((), (0,), (1,)), (2,))


def test_command_reads_files(tmp_path: Any) -> None:
    bench = tmp_path / "two.bench"
    bench.write_text("INPUT(a)\nOUTPUT(z)\ny = AND(a, a, a)\nz = OR(y, a)\n")
    assert json.loads(answer(arguments(f"reversible {bench} --json"))[1])["pebbles"] == 2
    data = tmp_path / "two.json"
    data.write_text(json.dumps({"n": 2, "edges": [[0, 1]], "targets": [1]}))
    assert json.loads(answer(arguments(f"black {data} --json"))[1])["pebbles"] == 2
    data.write_text(json.dumps(make_graph("path:3").to_json()))
    assert json.loads(answer(arguments(f"black {data} --json"))[1])["graph"] == "path:3"
    data.write_text("nothing")
    with pytest.raises(InvalidArgument, match="no JSON"):
        answer(arguments(f"black {data}"))


def test_frames_show_every_kind_of_pebble() -> None:
    def boards(name: str, line: str) -> Iterator[str]:
        result = least_cost(make_graph(line), make_game(name))
        assert result.strategy is not None
        return (text.split()[1] for text in frames(result.game, result.board, result.strategy))

    assert set("".join(boards("red-blue", "path:3"))) == {"b", ".", "r", "#"}
    steps = [place(0), place(1), remove(0), place(2)]
    last = list(frames(Black(), make_graph("path:3"), steps))[-1]
    assert last == "   4  .##    2  place 2"
    ghosts = least_pebbles(make_graph("path:6"), make_game("spooky"))
    assert any("~" in f for f in frames(ghosts.game, ghosts.board, ghosts.strategy or ()))


def test_plots() -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    from pebble.games import plotting

    result = least_cost(make_graph("path:8"), Reversible(), 4)
    matrix = plotting.strategy_matrix(result)
    assert matrix.shape == (8, 26)
    assert matrix[:, 0].sum() == 0
    assert (matrix > 0).sum(axis=0).max() == 4
    assert matrix.max() == 2
    for draw in (plotting.plot_strategy, plotting.plot_pebbles):
        axes = plt.figure().subplots()
        assert draw(result, ax=axes) is axes
    assert plotting.plot_front(pareto_front(make_graph("path:4"), Reversible())).get_xlabel()
    assert plotting.plot_board(result, 3) is not None
    with pytest.raises(InvalidArgument, match="no move 99"):
        plotting.plot_board(result, 99)
    with pytest.raises(InvalidArgument, match="no strategy to draw"):
        plotting.plot_strategy(least_cost(make_graph("path:8"), Reversible(), 2))
    plt.close("all")
