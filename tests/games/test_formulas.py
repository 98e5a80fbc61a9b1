"""Known values as functions: exact search finds them again."""

from __future__ import annotations

import networkx as nx
import pytest

from pebble.errors import InvalidArgument
from pebble.games import (
    Black,
    BlackWhite,
    RedBlue,
    Reversible,
    Spooky,
    formulas,
    least_cost,
    least_pebbles,
    make_graph,
)
from pebble.solver import Status

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
      for k in range(3)),
    pytest.param(
        "fft:3", formulas.butterfly_pebbles(3), formulas.butterfly_pebbles(3, slide=True),
        marks=pytest.mark.slow,
    ),
    *((f"bipstack:{w}x{n}", formulas.bipartite_stack_pebbles(w, n),
       formulas.bipartite_stack_pebbles(w, n, slide=True)) for w in (2, 3) for n in (1, 2, 3)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "noslide", "slide"), BLACK_VALUES)
def test_black_formulas(name: str, noslide: int, slide: int) -> None:
    for game, value in ((Black(), noslide), (Black(slide=True), slide)):
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
