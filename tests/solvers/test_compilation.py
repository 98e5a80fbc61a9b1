"""Compiling the kernels: once a process, and never longer than a time limit allows."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from pebble.compiling import is_kept, keeps
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


def test_what_was_compiled_is_known_to_be_on_disk() -> None:
    assert compilation.compiled(float("inf"))
    assert all(is_kept(kernel) for kernel in compilation.entries() if keeps(kernel))


def test_what_is_not_on_disk_another_process_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where that one fails, this one compiles."""
    commands: list[list[str]] = []

    class Process:
        """Fails at once."""

        pid = -1

        def __init__(self, command: list[str], **_: object) -> None:
            commands.append(command)

        def wait(self) -> int:
            return 1

        def kill(self) -> None: ...

    monkeypatch.setattr("pebble.compiling.keeps", lambda kernel: True)
    monkeypatch.setattr("pebble.compiling.is_kept", lambda kernel: False)
    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(compilation, "_compiling", [])
    assert compilation.compiled(float("inf"))
    assert [command[0] for command in commands] == [sys.executable]
    assert "compile_kernels" in commands[0][-1]
