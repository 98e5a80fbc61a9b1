"""The registry: names, and what a solver states about itself."""

from __future__ import annotations

import pytest

from pebble.errors import InvalidArgument, UnknownSolver
from pebble.problem import Problem
from pebble.schedule import Schedule
from pebble.solver import (
    Answer,
    capabilities,
    get_solver,
    register,
    registrations,
    solver_names,
    solver_rows,
    unregister,
)


def every_op_once(problem: Problem, *, seed: int = 0, width: int = 1) -> Answer:
    """Every op once.

    More is not to be said.
    """
    return Answer(Schedule.keep_all(problem.graph))


def test_names() -> None:
    assert {"keep_all", "recompute_all", "greedy", "sqrt", "ilp", "auto"} <= set(solver_names())
    with pytest.raises(UnknownSolver, match=r"no solver 'nope'; choose one of .*greedy"):
        get_solver("nope")
    with pytest.raises(InvalidArgument, match="registered already"):
        register("keep_all")(every_op_once)


def test_a_name_is_free_again_and_may_be_given_twice_to_one_function() -> None:
    for _ in range(2):
        assert register("mine")(every_op_once) is every_op_once
    (mine,) = [entry for entry in registrations() if entry.name == "mine"]
    assert (mine.summary, mine.bound, mine.portfolio) == ("Every op once.", "-", False)
    assert mine.capabilities == capabilities(every_op_once)
    unregister("mine")
    assert "mine" not in solver_names()
    unregister("mine")


def test_capabilities_come_from_the_signature() -> None:
    takes = capabilities(every_op_once)
    assert (takes.seed, takes.start, takes.threads, takes.halt) == (True, False, False, False)
    assert takes.options == ("width",)
    assert takes.select({"seed": 3, "threads": 2}) == {"seed": 3}
    assert not takes.anything
    assert capabilities(lambda problem, **options: None).anything
    assert {name for name in solver_names() if capabilities(name).halt} == {"ilp"}
    assert {name for name in solver_names() if capabilities(name).threads} == {
        "anneal", "auto", "cpsat", "ilp", "minpeak",
    }  # fmt: skip
    assert {name for name in solver_names() if capabilities(name).start} == {
        "anneal", "auto", "cpsat", "ilp", "lns", "minpeak",
    }  # fmt: skip


def test_every_solver_says_what_it_does() -> None:
    rows = solver_rows()
    assert rows[0][0] == "auto"
    assert sorted(name for name, _, _ in rows) == list(solver_names())
    assert all(summary and bound for _, summary, bound in rows)
