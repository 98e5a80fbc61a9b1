"""Path certificates: anyone can check them, and they never claim too much."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pebble.errors import InvalidArgument
from pebble.games import (
    Black,
    Board,
    PathCertificate,
    certify,
    check_certificate,
    least_pebbles,
    make_graph,
)
from pebble.games.literature.random_graphs import random_dag
from pebble.solver import Status


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pyramid:6", 8),
        ("fft:2", 4),
        pytest.param("pyramid:8", 10, marks=pytest.mark.slow),
        pytest.param("pyramid:10", 12, marks=pytest.mark.slow),
        pytest.param("fft:3", 5, marks=pytest.mark.slow),
    ],
)
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
    for game in (Black(), Black(slide=True)):
        certificate = certify(game, board)
        assert certificate is not None
        check_certificate(board, certificate)
        assert search(game, board, certificate.bound(game) - 1, optimal=False).infeasible
