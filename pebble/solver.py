"""Solving: a solver is called and its answer judged. The solver proposes, the referee judges.

What a solver returns is in `pebble.answers`, what it is called with in `pebble.contract`, how it
gets a name in `pebble.registry`; all of it imports from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from pebble.answers import Answer, Progress, Result, Status, objective_of
from pebble.arguments import check_time_limit
from pebble.contract import Capabilities, Halt, Solver, schedules_of
from pebble.errors import InvalidArgument, InvalidSchedule
from pebble.problem import Objective, Problem
from pebble.progress import progress_line
from pebble.referee import Trace, simulate
from pebble.registry import (
    Registration,
    capabilities,
    get_solver,
    register,
    registrations,
    solver_names,
    solver_rows,
    unregister,
)
from pebble.schedule import FREE_ORDER, Schedule

__all__ = [
    "Answer",
    "Capabilities",
    "Halt",
    "Progress",
    "Registration",
    "Result",
    "Solver",
    "Status",
    "capabilities",
    "check_solver_options",
    "get_solver",
    "register",
    "registrations",
    "schedules_of",
    "solve",
    "solver_names",
    "solver_rows",
    "unregister",
]


def solve(
    problem: Problem,
    solver: str | Solver = "auto",
    *,
    time_limit: float = 60.0,
    seed: int = 0,
    report: Callable[[Progress], None] | None = None,
    display: bool | None = None,
    **options: Any,
) -> Result:
    """Solve a pebbling problem.

    Parameters
    ----------
    problem : Problem
    solver : str or callable
        A registered name, or any callable ``Problem -> Answer``.
    time_limit : float
        Seconds; a solver returns what it has by then.
    seed : int
        The same seed gives the same schedule wherever time does not cut a search short.
    report : callable, optional
        Called with a `Progress` whenever incumbent or bound improve.
    display : bool, optional
        Show progress, and in the end what came out; default: on a terminal and in a notebook.
    **options
        Passed to the solver.

    Returns
    -------
    Result
        Judged by the referee. Without a schedule the status says whether infeasibility was
        proved; nothing is raised for that.

    Raises
    ------
    UnknownSolver, InvalidArgument, InvalidSchedule
        For an unknown name, a senseless time limit or option, and for a solver whose schedule
        breaks the rules.

    Examples
    --------
    >>> import networkx as nx
    >>> from pebble.graph import Graph
    >>> chain = Graph.from_networkx(nx.path_graph(4, create_using=nx.DiGraph))
    >>> solve(Problem(chain, budget=2), "keep_all").status
    <Status.OPTIMAL: 'optimal'>
    """
    name, function = get_solver(solver)
    if not isinstance(problem, Problem):
        raise InvalidArgument(
            f"solve takes a Problem, not a {type(problem).__name__}; pass "
            "pebble.Problem(graph, budget)."
        )
    check_time_limit(time_limit)
    started = time.perf_counter()
    with progress_line(display, f"solve {problem.graph.name}", float(time_limit)) as line:
        costs = problem.objective is Objective.COST
        line.base_cost = problem.graph.total_cost if costs else 0
        call = {"time_limit": float(time_limit), "seed": seed, "report": report or line.report}
        if problem.working_set_bound > problem.budget:
            answer = Answer(None, infeasible=True, message=_too_small(problem))
        else:
            answer = function(problem, **_accepted(name, function, call, options))
        if not isinstance(answer, Answer):
            raise InvalidArgument(
                f"Solver {name!r} returned a {type(answer).__name__}; a solver returns an Answer."
            )
        result = _judge(problem, name, answer, time.perf_counter() - started, seed, options)
        line.result(f"{result.status}, {result.objective}")
        return result


def _judge(
    problem: Problem,
    name: str,
    answer: Answer,
    runtime: float,
    seed: int,
    options: Mapping[str, Any],
) -> Result:
    trivial = (
        problem.graph.total_cost
        if problem.objective is Objective.COST
        else problem.working_set_bound
    )
    bound, scope = answer.lower_bound, answer.scope
    if bound <= trivial:
        bound, scope = trivial, answer.scope if answer.infeasible else FREE_ORDER
    trace = None if answer.schedule is None else _replay(problem, name, answer.schedule)
    fits = trace is not None and trace.peak <= problem.budget
    if fits and answer.schedule is not None and trace is not None:
        proved = objective_of(problem, trace) <= bound and scope.contains(
            problem.graph, answer.schedule
        )
        status = Status.OPTIMAL if proved else Status.FEASIBLE
    else:
        status = Status.INFEASIBLE if answer.infeasible else Status.NOT_FOUND
    return Result(
        problem=problem,
        solver=name,
        status=status,
        schedule=answer.schedule if fits else None,
        trace=trace if fits else None,
        lower_bound=bound,
        scope=scope,
        closest_peak=None if trace is None else trace.peak,
        runtime=runtime,
        seed=seed,
        options=MappingProxyType(dict(options)),
        message=answer.message,
    )


def _replay(problem: Problem, name: str, schedule: Schedule) -> Trace:
    try:
        return simulate(problem, schedule)
    except InvalidSchedule as error:
        raise InvalidSchedule(f"Solver {name!r} broke the rules. {error}") from None


def _accepted(
    name: str, function: Solver, call: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    takes = Capabilities.of(function)
    if takes.anything:
        return {**call, **options}
    _check_options(name, takes, options)
    return {**takes.select(call), **options}


def check_solver_options(solver: str | Solver, options: Iterable[str]) -> None:
    """Refuse options that a solver does not have, before it is called.

    Raises
    ------
    UnknownSolver, InvalidArgument
        Lists the options that it has.
    """
    name, function = get_solver(solver)
    takes = Capabilities.of(function)
    if not takes.anything:
        _check_options(name, takes, options)


def _check_options(name: str, takes: Capabilities, options: Iterable[str]) -> None:
    unknown = [key for key in options if key not in takes.options]
    if unknown:
        own = ", ".join(takes.options)
        known = f"its options are {own}" if own else "it takes none, so leave that out"
        raise InvalidArgument(f"Solver {name!r} has no option {unknown[0]!r}; {known}.")


def _too_small(problem: Problem) -> str:
    worst = int(problem.working_sets.argmax())
    return (
        f"Op {problem.graph.ops[worst].name!r} alone needs {problem.working_set_bound} bytes "
        f"for its inputs, outputs and workspace, above the budget of {problem.budget}."
    )
