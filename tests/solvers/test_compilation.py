"""Compiling the kernels: once a process, and never longer than a time limit allows."""

from __future__ import annotations

import threading

import pytest

from pebble.problem import Problem
from pebble.solver import solve
from pebble.solvers.annealing import compilation
from tests.graphs import training_chain


def test_a_first_compilation_does_not_outlast_the_time_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    class Compiling(threading.Thread):
        """Never ready; it says how long it was waited for."""

        def join(self, timeout: float | None = None) -> None:
            waits.append(float("inf") if timeout is None else timeout)

        def is_alive(self) -> bool:
            return True

    monkeypatch.setattr(compilation, "_compiling", [Compiling()])
    result = solve(Problem(training_chain(4), 8), "anneal", time_limit=0.3)
    assert result.schedule is not None, "the reference order fits"
    assert waits
    assert all(0 <= wait <= 0.3 for wait in waits)


def test_what_is_compiled_is_ready_at_once() -> None:
    assert compilation.compiled(float("inf"))
    assert compilation.compiled(0.0)
