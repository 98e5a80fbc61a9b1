"""Progress: one line where somebody watches, nothing in pipes, and what came out at the end."""

from __future__ import annotations

import io
import threading
import time
from typing import Any

import networkx as nx
import pytest

from pebble import progress
from pebble.answers import Answer, Progress
from pebble.graph import Graph
from pebble.problem import Problem
from pebble.progress import DrawnLine, ProgressLine, open_line, progress_line
from pebble.schedule import Schedule
from pebble.solver import solve


class Terminal(io.StringIO):
    """A standard error that somebody watches."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    shown = Terminal()
    monkeypatch.setattr(progress, "stream", lambda: shown)
    monkeypatch.setattr(progress, "_DELAY", 0.0)
    monkeypatch.setattr(progress, "_TICK", 0.01)
    return shown


def _work() -> None:
    with progress_line(None, "optimize Net", 60.0) as line:
        line.base_cost = 100
        line.stage("solve")
        line.report(Progress(1.0, 120, 110, "priced"))
        time.sleep(0.3)
        line.result("1.00 GB of 2.00 GB")


def test_a_terminal_shows_it_and_what_came_out(terminal: Terminal) -> None:
    _work()
    text = terminal.getvalue()
    assert "optimize Net: solve, found +20.00 %, bound +10.00 %, gap 9.09 % (priced)" in text
    assert "limit 60 s" in text
    assert text.rstrip().rpartition("optimize Net: ")[2].startswith("1.00 GB of 2.00 GB (")


def test_a_pipe_shows_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    _work()
    assert capfd.readouterr() == ("", "")


def test_a_quick_call_shows_nothing_unless_asked(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_DELAY", 60.0)
    for display in (None, False):
        with progress_line(display, "quick") as line:
            line.result("done")
    assert terminal.getvalue() == ""
    with progress_line(True, "quick") as line:
        line.result("done")
    assert terminal.getvalue().startswith("quick: done (")


def test_what_is_inside_tells_the_outermost(terminal: Terminal) -> None:
    with progress_line(True, "outer") as line:
        assert isinstance(line, DrawnLine)
        with progress_line(True, "inner") as other:
            assert other is line is open_line()
        line.result("done")
    assert open_line() is not line
    assert "inner" not in terminal.getvalue()


def test_an_error_ends_the_line(terminal: Terminal) -> None:
    with pytest.raises(KeyError), progress_line(True, "call"):
        time.sleep(0.05)
        raise KeyError("x")
    assert "call: KeyError (" in terminal.getvalue()
    assert type(open_line()).__name__ == "ProgressLine"


def test_what_is_switched_off_is_off_inside(terminal: Terminal) -> None:
    with progress_line(False, "outer"), progress_line(None, "inner") as line:
        time.sleep(0.05)
        line.result("done")
    assert terminal.getvalue() == ""


def test_a_solve_shows_its_bound_and_says_what_came_out(terminal: Terminal) -> None:
    def slow(problem: Problem, report: Any) -> Answer:
        report(Progress(0.0, 3, 2, "slow"))
        time.sleep(0.1)
        return Answer(Schedule.keep_all(problem.graph))

    chain = Graph.from_networkx(nx.path_graph(2, create_using=nx.DiGraph))
    solve(Problem(chain, budget=2), slow)
    assert "found +50.00 %, bound +0.00 %, gap 50.00 % (slow)" in terminal.getvalue()
    assert "optimal, 2 (" in terminal.getvalue()


def test_threads_of_a_call_share_its_line(terminal: Terminal) -> None:
    found: list[ProgressLine] = []
    with progress_line(True, "outer") as line:
        thread = threading.Thread(target=lambda: found.append(open_line()))
        thread.start()
        thread.join()
    assert found == [line]
