"""The annealer's board against the referee, after any trials."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pebble.problem import Problem
from pebble.referee import simulate
from pebble.solvers.annealing import boards
from pebble.solvers.annealing.kernels.board import COST, EXCESS, SHIFT, Board
from pebble.solvers.annealing.kernels.chunk import Course, anneal_chunk
from pebble.solvers.annealing.kernels.layout import dense
from pebble.solvers.annealing.kernels.trials import sweep_idle
from tests.graphs import keep_peak, rich_graph


def live(board: Board) -> np.ndarray:
    """Bytes in memory at each step of a board."""
    blocks = np.arange(len(board.slot)) >> board.number[SHIFT]
    return (board.memory + board.base[blocks])[board.slot >= 0]


@pytest.mark.parametrize("blocked", [6_000, 0])
@pytest.mark.parametrize("seed", range(12))
def test_the_board_agrees_with_the_referee_after_any_trials(
    seed: int, blocked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "BLOCKED", blocked)
    rng = random.Random(seed)
    graph = rich_graph(seed, rng.randint(4, 36), makes=(0, 1, 2, 3), size=(0, 20))
    problem, net = Problem(graph, 0), boards.net_of(Problem(graph, 0))
    budget = int(0.7 * keep_peak(graph))
    board = boards.board_of(net, range(len(graph.ops)), budget, seed)
    order = np.zeros(len(board.slot), np.int64)
    course = Course(
        2_000, np.array([0.5, 0.5]), np.array([1e-2, 1e-2]), np.array([80, 80, 128]), 0.0
    )
    trial, lengths = 0, set()
    while trial < course.total:
        stop = trial + rng.randint(1, 20)
        anneal_chunk(net, board, trial, stop, course)
        trial = stop
        length = dense(board, order)
        trace = simulate(problem, order[:length])
        assert trace.cost == board.number[COST]
        assert (live(board) == trace.live).all()
        assert board.number[EXCESS] == np.maximum(trace.live - budget, 0).sum()
        lengths.add(length)
    sweep_idle(net, board)
    length = dense(board, order)
    assert (live(board) == simulate(problem, order[:length]).live).all()
    assert len(lengths) > 1 or not problem.may_repeat.any(), "nothing was ever added or removed"
