"""Other people's solvers in the portfolio: what they find is used, what they claim is not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from pebble.problem import Problem
from pebble.schedule import FREE_ORDER, Schedule
from pebble.solver import Answer, Halt, Result, Solver, Status, register, solve, unregister
from pebble.solvers.annealing.search import Search
from pebble.solvers.portfolio import guests
from tests.graphs import keep_peak, skipping_graph

Register = Callable[[Solver], None]


@pytest.fixture
def guest() -> Iterator[Register]:
    """Registers a guest of the portfolio for one test."""
    yield lambda solver: register("guest", portfolio=True)(solver)
    unregister("guest")


@pytest.fixture
def problem() -> Problem:
    graph = skipping_graph(2, 120)
    return Problem(graph, int(0.75 * keep_peak(graph)))


def asked(problem: Problem, **options: object) -> Result:
    return solve(problem, "auto", time_limit=2.0, **options)


def test_a_better_schedule_of_a_guest_is_the_answer(
    problem: Problem, guest: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    better = solve(problem, "anneal", iterations=400_000, time_limit=100)
    # Without annealing, which might find by itself what the guest knows.
    monkeypatch.setattr(Search, "run", lambda search, **options: None)
    alone = asked(problem)
    assert better.objective is not None
    assert alone.objective is not None
    assert better.objective < alone.objective
    starts: list[tuple[Schedule, ...]] = []

    def knowing(problem: Problem, *, start: tuple[Schedule, ...] = ()) -> Answer:
        starts.append(start)
        return Answer(better.schedule)

    guest(knowing)
    result = asked(problem)
    assert (result.schedule, result.message) == (better.schedule, "")
    assert len(starts) == 1, "it is asked once"
    assert starts[0], "and told what is known"


def test_a_guest_that_raises_is_named_and_does_no_harm(
    problem: Problem, guest: Register, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(problem: Problem) -> Answer:
        raise ZeroDivisionError("seven by zero")

    guest(broken)
    with caplog.at_level(logging.WARNING):
        result = asked(problem)
    assert result.schedule is not None
    said = "Solver 'guest' in the portfolio: ZeroDivisionError: seven by zero"
    assert said in result.message
    assert said in caplog.text


def test_a_guest_that_breaks_the_rules_is_named_and_does_no_harm(
    problem: Problem, guest: Register
) -> None:
    guest(lambda problem: Answer(Schedule((1, 0))))
    result = asked(problem)
    assert result.schedule is not None
    assert "Solver 'guest' in the portfolio: InvalidSchedule" in result.message
    unregister("guest")
    guest(lambda problem: None)  # type: ignore[arg-type, return-value]
    assert "a solver returns an Answer" in asked(problem).message


def test_what_a_guest_claims_without_a_schedule_is_not_believed(
    problem: Problem, guest: Register
) -> None:
    over = Schedule.keep_all(problem.graph)
    guest(lambda problem: Answer(over, 2**50, FREE_ORDER, infeasible=True))
    result = asked(problem)
    assert result.schedule is not None
    assert result.objective is not None
    assert result.lower_bound <= result.objective
    assert result.status is not Status.INFEASIBLE


@pytest.mark.slow
def test_a_guest_that_does_not_come_back_is_left_behind(
    problem: Problem, guest: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guests, "SHARE", 0.1)
    never, told = threading.Event(), threading.Event()

    def endless(problem: Problem) -> Answer:
        never.wait()
        return Answer(None)

    def obedient(problem: Problem, *, halt: Halt) -> Answer:
        halt.watch(told.set)
        told.wait()
        return Answer(None)

    guest(endless)
    assert "'guest' in the portfolio was still running after its" in asked(problem).message
    never.set()
    unregister("guest")
    guest(obedient)
    assert asked(problem).message == ""
    assert told.is_set()


@pytest.mark.slow
def test_a_guest_may_ask_the_portfolio_itself(problem: Problem, guest: Register) -> None:
    calls: list[int] = []

    def polishing(problem: Problem, *, time_limit: float) -> Answer:
        calls.append(1)
        return Answer(solve(problem, "auto", time_limit=time_limit).schedule)

    guest(polishing)
    assert asked(problem).schedule is not None
    assert len(calls) == 1


def test_guests_are_asked_in_the_reference_order_too(guest: Register) -> None:
    graph = skipping_graph(1, 16)
    problem = Problem(graph, int(0.85 * keep_peak(graph)))
    calls: list[int] = []

    def broken(problem: Problem, *, seed: int) -> Answer:
        calls.append(seed)
        raise ValueError("not today")

    guest(broken)
    result = asked(problem, order="fixed", seed=7)
    assert calls == [7]
    assert "ValueError: not today" in result.message


def test_a_solver_that_does_not_say_so_is_no_guest(problem: Problem) -> None:
    register("stranger")(lambda problem: pytest.fail("must not be called"))
    try:
        assert asked(problem).message == ""
    finally:
        unregister("stranger")
