"""Families, formulas, certificates and relations between the games."""

from __future__ import annotations

import time

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pebble.errors import GraphError, InvalidArgument
from pebble.games import (
    Black,
    BlackWhite,
    Board,
    ParallelBlack,
    PathCertificate,
    RedBlue,
    Reversible,
    Spooky,
    bennett_strategy,
    certify,
    check_certificate,
    formulas,
    knill_strategy,
    least_cost,
    least_pebbles,
    make_graph,
    parse_bench,
    place,
    play,
    remove,
)
from pebble.games.constructions.cones import cone_strategy, order_targets
from pebble.games.constructions.nested import TooLong, nested_strategy
from pebble.games.constructions.stopovers import stopover_strategies
from pebble.games.constructions.trimming import tightened, trimmed
from pebble.games.literature.families import FAMILIES, random_dag, random_layered
from pebble.solver import Status

NOSLIDE, SLIDE = Black(), Black(slide=True)

BLACK_VALUES = [  # graph, without sliding, with sliding
    *((f"pyramid:{h}", formulas.pyramid_pebbles(h), formulas.pyramid_pebbles(h, slide=True))
      for h in range(8)),
    *((f"tree:2x{h}", formulas.tree_pebbles(2, h), formulas.tree_pebbles(2, h, slide=True))
      for h in range(6)),
    *((f"tree:{d}x2", formulas.tree_pebbles(d, 2), formulas.tree_pebbles(d, 2, slide=True))
      for d in (3, 4, 5)),
    *((f"grid:{m}x{n}", formulas.grid_pebbles(m, n), formulas.grid_pebbles(m, n, slide=True))
      for m, n in ((2, 7), (3, 6), (4, 5), (5, 5))),
    *((f"fft:{k}", formulas.butterfly_pebbles(k), formulas.butterfly_pebbles(k, slide=True))
      for k in range(4)),
    *((f"bipstack:{w}x{n}", formulas.bipartite_stack_pebbles(w, n),
       formulas.bipartite_stack_pebbles(w, n, slide=True)) for w in (2, 3) for n in (1, 2, 3)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "noslide", "slide"), BLACK_VALUES)
def test_black_formulas(name: str, noslide: int, slide: int) -> None:
    for game, value in ((NOSLIDE, noslide), (SLIDE, slide)):
        result = least_pebbles(make_graph(name), game)
        assert (result.pebbles, result.lower_bound, result.status) == (value, value, Status.OPTIMAL)


@pytest.mark.parametrize("height", range(5))
def test_black_white_formula(height: int) -> None:
    for hold in (False, True):
        result = least_pebbles(make_graph(f"pyramid:{height}"), BlackWhite(hold=hold))
        assert result.pebbles == formulas.black_white_pebbles(height, hold=hold)
        assert result.status is Status.OPTIMAL


@pytest.mark.parametrize("log2n", [1, 2, 3])
def test_bit_reversal_formula(log2n: int) -> None:
    for again in (True, False):
        result = least_pebbles(make_graph(f"bitrev:{log2n}"), Black(recompute=again))
        assert result.pebbles == formulas.bit_reversal_pebbles(log2n, recompute=again)


def test_checkpointing_is_black_pebbling() -> None:
    for n in range(2, 11):
        graph = make_graph(f"trainchain:{n}")
        for slide in (False, True):
            for k in range(2 if slide else 3, n + 2):
                found = least_cost(graph, Black(slide=slide), k).cost
                assert found == formulas.training_chain_placements(n, k, slide=slide)


def test_binomial_counts() -> None:
    """Griewank and Walther's counts, and the recursion they solve."""

    def steps(length: int, slots: int, known: dict[tuple[int, int], int]) -> int:
        if length <= 1:
            return 0
        if slots == 1:
            return length * (length - 1) // 2
        if (length, slots) not in known:
            known[length, slots] = min(
                m + steps(m, slots, known) + steps(length - m, slots - 1, known)
                for m in range(1, length)
            )
        return known[length, slots]

    known: dict[tuple[int, int], int] = {}
    for length in range(1, 41):
        for slots in range(1, 8):
            assert formulas.revolve_steps(length, slots) == steps(length, slots, known)


def test_sqrt_checkpointing_is_optimal_at_its_peak() -> None:
    for side in range(2, 11):
        peak, placements = formulas.sqrt_segments(side * side)
        assert placements == formulas.training_chain_placements(side * side, peak)
    with pytest.raises(InvalidArgument, match="no square"):
        formulas.sqrt_segments(10)


@pytest.mark.parametrize(("n", "k"), [(8, 4), (16, 5), (16, 9), (24, 6), (33, 7)])
def test_knills_line_is_optimal(n: int, k: int) -> None:
    strategy = knill_strategy(n, k)
    trace = play(Reversible(), make_graph(f"path:{n}"), strategy, pebbles=k)
    assert trace.cost == formulas.line_moves(n, k) == len(strategy)
    if n <= 24:
        assert least_cost(make_graph(f"path:{n}"), Reversible(), k).cost == trace.cost


def test_reversible_line_of_64_with_7_pebbles() -> None:
    trace = play(Reversible(), make_graph("path:64"), knill_strategy(64, 7), pebbles=7)
    assert (trace.peak, trace.cost) == (7, formulas.line_moves(64, 7))
    assert formulas.line_moves(64, 6) is None
    with pytest.raises(InvalidArgument, match="at least 7 pebbles, not 6"):
        knill_strategy(64, 6)


@pytest.mark.parametrize(("base", "levels"), [(2, 5), (3, 3), (4, 2)])
def test_bennetts_line(base: int, levels: int) -> None:
    n, pebbles, moves = formulas.bennett_line(base, levels)
    trace = play(Reversible(), make_graph(f"path:{n}"), bennett_strategy(base, levels))
    assert (trace.peak, trace.cost) == (pebbles, moves)


def test_spooky_lines() -> None:
    """Gidney 2019: three pebbles do with ghosts enough; g ghosts reach n = g + 4."""
    for n in range(3, 9):
        assert least_pebbles(make_graph(f"path:{n}"), Spooky()).pebbles == 3
    for ghosts in range(4):
        ok = least_pebbles(make_graph(f"path:{ghosts + 4}"), Spooky(ghosts=ghosts))
        longer = least_pebbles(make_graph(f"path:{ghosts + 5}"), Spooky(ghosts=ghosts))
        assert (ok.pebbles, longer.pebbles) == (3, 4)


@pytest.mark.parametrize("seed", range(12))
def test_in_trees(seed: int) -> None:
    tree = nx.random_labeled_tree(8, seed=seed)
    rooted = nx.DiGraph((v, u) for u, v in nx.bfs_edges(tree, 0))
    for slide in (False, True):
        value = formulas.in_tree_pebbles(rooted, slide=slide)
        assert least_pebbles(rooted, Black(slide=slide)).pebbles == value
    assert least_pebbles(rooted, Reversible()).pebbles == formulas.edge_rank(rooted) + 1


def test_red_blue_bounds_hold() -> None:
    for red in (3, 4, 5):
        found = least_cost(make_graph("matmul:2x2x2"), RedBlue(), red)
        assert found.status is Status.OPTIMAL
        assert found.cost >= formulas.matrix_product_transfers(2, 2, 2, red)
        found = least_cost(make_graph("fft:2"), RedBlue(), red)
        assert found.cost >= formulas.butterfly_transfers(2, red)


def test_two_point_transform() -> None:
    """4 transfers with inputs in slow memory, 2 if sources may be computed."""
    assert least_cost(make_graph("fft:1"), RedBlue(), 3).cost == 4
    assert least_cost(make_graph("fft:1"), RedBlue(blue_inputs=False), 3).cost == 2


def test_cut_bound_never_exceeds_the_optimum() -> None:
    from pebble.games.bounds.floors import cost_lower_bound
    from pebble.games.traffic import cut_applies, cut_bound

    graph = Board.of(make_graph("matmul:2x2x2"))
    assert cut_applies(RedBlue(), graph)
    assert not cut_applies(RedBlue(), Board.of(make_graph("pyramid:3")))
    for red in (3, 4, 5):
        bound = cost_lower_bound(RedBlue(), graph) + cut_bound(RedBlue(), graph, red)
        assert bound <= least_cost(graph, RedBlue(), red).cost
    assert cut_bound(RedBlue(), graph, 3) > 0
    game = RedBlue(recompute=False)
    for seed in range(20):
        full = Board.of(random_dag(8, 0.5, seed=seed))
        board, _ = full.restricted(v for v in range(8) if full.preds[v] or full.succs[v])
        red = 1 + max(map(len, board.preds))
        extra = cut_bound(game, board, red)
        assert cost_lower_bound(game, board) + extra <= least_cost(board, game, red).cost


# -- certificates --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "value"), [("pyramid:8", 10), ("pyramid:10", 12), ("fft:3", 5)])
def test_certificates_that_anyone_can_check(name: str, value: int) -> None:
    board = Board.of(make_graph(name))
    certificate = certify(Black(), board)
    assert certificate is not None
    check_certificate(board, certificate)
    assert certificate.bound(Black()) == value
    assert certificate.bound(Black(slide=True)) == value - 1
    result = least_pebbles(board, Black())
    assert (result.pebbles, result.status) == (value, Status.OPTIMAL)


def test_forged_certificates_are_refused() -> None:
    board = Board.of(make_graph("pyramid:2"))
    honest = certify(Black(), board)
    assert honest is not None
    path, sides = next(iter(honest.side_paths.items()))
    for wrong in (
        (sides[0], sides[0]),  # the same pebble twice
        (path[:1],),  # on the path itself
        ((board.targets[0],),),  # starts at no source
    ):
        forged = PathCertificate(honest.target, {**honest.side_paths, path: wrong})
        with pytest.raises(InvalidArgument, match="Side path"):
            check_certificate(board, forged)
    fewer = dict(honest.side_paths)
    del fewer[path]
    with pytest.raises(InvalidArgument, match="lacks a path"):
        check_certificate(board, PathCertificate(honest.target, fewer))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10_000))
def test_path_bound_never_exceeds_the_pebbling_number(n: int, seed: int) -> None:
    from pebble.games.exact.search import search

    board = Board.of(random_dag(n, 0.5, seed=seed))
    for game in (NOSLIDE, SLIDE):
        certificate = certify(game, board)
        assert certificate is not None
        check_certificate(board, certificate)
        assert search(game, board, certificate.bound(game) - 1, optimal=False).infeasible


# -- relations -----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 7), st.integers(0, 10_000))
def test_relations_between_the_games(n: int, seed: int) -> None:
    graph = random_dag(n, 0.4, seed=seed)

    def least(game: object) -> int:
        return least_pebbles(graph, game).pebbles or 0

    black, slide = least(Black()), least(Black(slide=True))
    assert black - 1 <= slide <= black
    assert black <= least(Black(hold=True))
    assert black <= least(Black(recompute=False))
    visit, hold = least(Reversible(hold=False)), least(Reversible())
    targets = len(Board.of(graph).targets)
    assert black <= visit <= hold <= visit + targets
    assert least(BlackWhite()) <= black
    assert least(Spooky(ghosts=0)) == hold
    assert least(Spooky(ghosts=2)) <= least(Spooky(ghosts=1)) <= hold
    assert least_cost(graph, ParallelBlack()).cost >= n
    assert least_cost(graph, Reversible()).cost == formulas.reversible_moves(graph)
    room = max(1 + max(map(len, Board.of(graph).preds)), 2)
    once = [least_cost(graph, RedBlue(recompute=False), room + i).cost for i in range(3)]
    again = [least_cost(graph, RedBlue(), room + i).cost for i in range(3)]
    assert again == sorted(again, reverse=True)
    assert all(a <= b for a, b in zip(again, once))


# -- graphs in and out ---------------------------------------------------------------------------

C17 = """
INPUT(a)
INPUT(b)
INPUT(c)
INPUT(d)
INPUT(e)
OUTPUT(y)
OUTPUT(z)
g1 = NAND(a, c)  # the textbook circuit of six NAND gates
g2 = NAND(c, d)
g3 = NAND(b, g2)
g4 = NAND(g2, e)
y = NAND(g1, g3)
z = NAND(g3, g4)
"""
MAPPED = [(0, 3), (1, 2), (2, 3), (4, 6), (5, 6)]
"""The same circuit mapped to seven majority gates, outputs 3 and 6."""


def test_netlists() -> None:
    graph = parse_bench(C17, name="c17")
    assert [op.name for op in graph.ops] == ["g1", "g2", "g3", "g4", "y", "z"]
    assert least_cost(graph, Reversible()).cost == formulas.reversible_moves(graph) == 10
    wires = "INPUT(a)\nOUTPUT(o)\nOUTPUT(p)\nx = LUT 0x8 (a, a)\no = LUT 0x1 (x)\np = BUFF(x)"
    assert len(parse_bench(wires).ops) == 1
    assert len(parse_bench(wires, inverters=True).ops) == 3
    assert len(parse_bench("OUTPUT(z)\nn0 = gnd\nz = AND(n0, n0)").ops) == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = NOT", "cannot be read"),
        ("OUTPUT(z)\nz = AND(a, b)", "'a' of netlist 'netlist' is driven by nothing"),
        ("INPUT(a)\nz = AND(a, a)\nz = OR(a, a)", "drives 'z' once more"),
        ("OUTPUT(x)\nx = AND(y, y)\ny = AND(x, x)", "loop"),
    ],
)
def test_wrong_netlists(text: str, sentence: str) -> None:
    with pytest.raises(GraphError, match=sentence):
        parse_bench(text)


def test_c17_mapped_takes_4_pebbles_and_12_moves() -> None:
    from pebble.games import graph_of_edges

    graph = graph_of_edges(7, MAPPED)
    fewest = least_pebbles(graph, Reversible())
    assert (fewest.pebbles, fewest.status) == (4, Status.OPTIMAL)
    result = least_cost(graph, Reversible(), 4)
    assert (result.cost, result.status) == (12, Status.OPTIMAL)
    order, pebbles, proved = order_targets(Board.of(graph))
    assert (len(order), pebbles, proved) == (2, 4, True)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10_000))
def test_cones_reach_the_move_floor(n: int, seed: int) -> None:
    board = Board.of(random_dag(n, 0.4, seed=seed))
    _, pebbles, _ = order_targets(board)
    trace = play(Reversible(), board, cone_strategy(board), pebbles=pebbles)
    assert trace.cost == formulas.reversible_moves(board)
    assert trace.peak == pebbles


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 10_000), st.integers(0, 4))
def test_nested_cones_are_legal(n: int, seed: int, level: int) -> None:
    board = Board.of(random_dag(n, 0.4, seed=seed))
    strategy = nested_strategy(board, level, board.targets)
    trace = play(Reversible(), board, strategy)
    assert trace.cost >= formulas.reversible_moves(board)


def test_nested_cones_trade_moves_for_pebbles() -> None:
    board = Board.of(make_graph("pyramid:6"))
    trades = [
        (trace.peak, trace.cost)
        for level in range(7)
        for trace in [play(Reversible(), board, nested_strategy(board, level, board.targets))]
    ]
    assert [peak for peak, _ in trades] == sorted((p for p, _ in trades), reverse=True)
    assert trades[0] == (28, 55)
    assert trades[-1][0] == 13
    with pytest.raises(TooLong):
        nested_strategy(board, 6, board.targets, most_moves=1000)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 14), st.integers(0, 10_000), st.integers(0, 3), st.integers(0, 4))
def test_trimmed_strategies_are_legal_and_no_worse(
    n: int, seed: int, level: int, spare: int
) -> None:
    board = Board.of(random_dag(n, 0.35, seed=seed))
    moves = nested_strategy(board, level, board.targets)
    before = play(Reversible(), board, moves)
    late = play(Reversible(), board, tightened(board, moves))
    assert (late.peak, late.cost) <= (before.peak, before.cost)
    assert late.cost <= before.cost
    short = play(
        Reversible(),
        board,
        trimmed(board, moves, late.peak + spare, deadline=0.0),
        pebbles=late.peak + spare,
    )
    assert formulas.reversible_moves(board) <= short.cost <= late.cost


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 14), st.integers(0, 10_000), st.integers(0, 8))
def test_stopovers_are_legal(n: int, seed: int, pebbles: int) -> None:
    board = Board.of(random_dag(n, 0.35, seed=seed))
    soon = time.monotonic() + 0.1
    for moves in stopover_strategies(board, board.targets, pebbles, deadline=soon, seed=seed):
        trace = play(Reversible(), board, moves)
        assert trace.cost >= formulas.reversible_moves(board)


def test_few_pebbles_on_a_board_beyond_exact_search() -> None:
    """Between the two ends: fewer moves than nested cones take, within the pebbles."""
    board = Board.of(random_layered(66, 5, seed=0))
    nested = play(Reversible(), board, nested_strategy(board, 3, board.targets))
    result = least_cost(board, Reversible(), nested.peak, engine="heuristic", time_limit=120)
    assert result.pebbles is not None and result.pebbles <= nested.peak < len(board)
    assert formulas.reversible_moves(board) <= (result.cost or 0) < nested.cost // 10
    fewest = least_pebbles(board, Reversible(), engine="heuristic", time_limit=120)
    assert fewest.lower_bound <= (fewest.pebbles or 0) <= len(board) // 2 < nested.peak


def test_trimming_reaches_the_known_trades() -> None:
    """With all the room there is, the move floor; on a path never below the optimum."""
    board = Board.of(make_graph("pyramid:8"))
    moves = nested_strategy(board, 5, board.targets)
    assert len(moves) > 1000
    assert len(trimmed(board, moves, 45, deadline=0.0)) == formulas.reversible_moves(board)
    line = Board.of(make_graph("path:32"))
    for pebbles in range(7, 33):
        moves = bennett_strategy(2, 5)
        cost = len(trimmed(line, moves, pebbles, deadline=0.0))
        assert formulas.line_moves(32, pebbles) <= cost <= len(moves)


def test_families_by_name() -> None:
    numbers = {"matmul": "2x2x2", "tree": "3x2", "grid": "3x2", "bipstack": "3x2"}
    for family in FAMILIES:
        assert len(make_graph(f"{family}:{numbers.get(family, '3')}").ops) >= 3
    layered = random_layered(50, 5, seed=1)
    board = Board.of(layered)
    assert len(board.sources) == len(board.targets) == 1
    assert random_layered(50, 5, seed=1) == layered != random_layered(50, 5, seed=2)
    for wrong in ("pyramid:x", "pyramid:-1", "pyramid:1x2", "castle:3", "pyramid"):
        with pytest.raises(InvalidArgument):
            make_graph(wrong)


def test_free_inputs_and_targets() -> None:
    graph = make_graph("pyramid:2")
    assert least_pebbles(graph, Black(free_inputs=True)).pebbles == 3
    assert least_pebbles(graph, Black(), targets=[3]).pebbles == 3
    assert play(Black(free_inputs=True), graph, [place(3), place(4), place(5), remove(3)]).peak == 3
