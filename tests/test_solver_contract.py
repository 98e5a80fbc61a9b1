"""What the core does with a solver's answer: judged, never trusted."""

from __future__ import annotations

import pytest

from pebble.errors import InvalidArgument, InvalidSchedule
from pebble.graph import Graph
from pebble.problem import Objective, Problem
from pebble.schedule import FIXED_ORDER, Schedule, Scope
from pebble.solver import Answer, Status, solve
from tests.graphs import training_chain


def step() -> Graph:
    """Three forward ops and three backward ones; each of these reads a forward value."""
    return training_chain(3, size=10, cost=5)


KEEP = Schedule((0, 1, 2, 3, 4, 5))
AGAIN = Schedule((0, 1, 2, 3, 4, 0, 5))  # f0 is computed again for b2


def test_cost_meeting_the_bound_inside_its_scope_is_optimal() -> None:
    problem = Problem(step(), 40)
    assert solve(problem, lambda p: Answer(KEEP)).status is Status.OPTIMAL
    tight = Problem(step(), 30)
    claim = Answer(AGAIN, lower_bound=35, scope=FIXED_ORDER)
    result = solve(tight, lambda p: claim)
    assert (result.status, result.gap) == (Status.OPTIMAL, 0.0)
    loose = solve(tight, lambda p: Answer(AGAIN))
    assert (loose.status, loose.lower_bound) == (Status.FEASIBLE, 30)
    assert loose.gap == pytest.approx(35 / 30 - 1)


def test_a_bound_of_another_scope_proves_nothing() -> None:
    tight = Problem(step(), 30)
    claim = Answer(AGAIN, lower_bound=35, scope=Scope(max_executions=1))
    assert solve(tight, lambda p: claim).status is Status.FEASIBLE


def test_over_budget_is_never_feasible_whatever_is_claimed() -> None:
    result = solve(Problem(step(), 30), lambda p: Answer(KEEP, lower_bound=30))
    assert (result.status, result.schedule, result.trace) == (Status.NOT_FOUND, None, None)
    assert result.closest_peak == 40


def test_infeasible_and_not_found_are_different_facts() -> None:
    problem = Problem(step(), 30)
    assert solve(problem, lambda p: Answer(None)).status is Status.NOT_FOUND
    proved = solve(problem, lambda p: Answer(None, infeasible=True, scope=FIXED_ORDER))
    assert (proved.status, str(proved.scope)) == (Status.INFEASIBLE, "fixed order")
    below = solve(Problem(step(), 29), lambda p: pytest.fail("must not be called"))
    assert below.status is Status.INFEASIBLE
    assert "'b1' alone needs 30 bytes" in below.message


def test_a_solver_that_breaks_the_rules_is_named() -> None:
    def cheat(problem: Problem) -> Answer:
        return Answer(Schedule((0, 1, 2, 4, 3, 5)))

    with pytest.raises(
        InvalidSchedule, match="Solver 'cheat' broke the rules. Step 3 runs op 'b1'"
    ):
        solve(Problem(step(), 100), cheat)


def test_an_answer_is_an_answer() -> None:
    with pytest.raises(InvalidArgument, match="returned a tuple"):
        solve(Problem(step(), 100), lambda p: KEEP.order)


def test_peak_objective() -> None:
    problem = Problem(step(), 100, Objective.PEAK)
    result = solve(problem, lambda p: Answer(AGAIN))
    assert (result.objective, result.lower_bound, result.status) == (30, 30, Status.OPTIMAL)


def test_keywords_go_only_to_those_who_name_them() -> None:
    seen = {}

    def curious(problem: Problem, *, seed: int, time_limit: float, width: int = 1) -> Answer:
        seen.update(seed=seed, time_limit=time_limit, width=width)
        return Answer(KEEP)

    solve(Problem(step(), 100), curious, time_limit=3, seed=7, width=9)
    assert seen == {"seed": 7, "time_limit": 3.0, "width": 9}
    with pytest.raises(InvalidArgument, match="has no option 'depth'; its options are width"):
        solve(Problem(step(), 100), curious, depth=1)


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_time_limit_must_be_positive(limit: float) -> None:
    with pytest.raises(InvalidArgument, match="time limit"):
        solve(Problem(step(), 100), "keep_all", time_limit=limit)


@pytest.mark.parametrize("budget", [-1, 1.5, True, None])
def test_the_budget_of_a_problem_is_a_non_negative_integer(budget: object) -> None:
    with pytest.raises(InvalidArgument, match="budget is"):
        Problem(step(), budget)  # type: ignore[arg-type]
