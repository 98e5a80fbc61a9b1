"""Solvers: how one is registered, called, and judged. The solver proposes, the referee judges."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from types import MappingProxyType
from typing import Any

from pebble.errors import InvalidArgument, InvalidSchedule, UnknownSolver
from pebble.problem import Objective, Problem
from pebble.referee import Trace, simulate
from pebble.schedule import FREE_ORDER, Schedule, Scope


class Status(StrEnum):
    """What is known after a solve. Derived from the replay, never claimed by a solver."""

    OPTIMAL = "optimal"
    """The replayed cost meets a proved lower bound in whose scope the schedule lies."""
    FEASIBLE = "feasible"
    """The replayed peak is within the budget."""
    INFEASIBLE = "infeasible"
    """Proved: no schedule in the bound's scope fits the budget."""
    NOT_FOUND = "not_found"
    """No schedule within the budget was found; there may be one."""


@dataclass(frozen=True)
class Answer:
    """What a solver returns.

    Parameters
    ----------
    schedule : Schedule or None
        Its best schedule; one over the budget is welcome where it found none within.
    lower_bound : int
        A proved bound on the objective for every schedule in `scope` that fits the budget.
    scope : Scope
        What the bound (or the proof of infeasibility) speaks of.
    infeasible : bool
        Proved: no schedule in `scope` fits the budget.
    message : str
        One sentence for people, such as why there is no schedule.
    """

    schedule: Schedule | None
    lower_bound: int = 0
    scope: Scope = FREE_ORDER
    infeasible: bool = False
    message: str = ""


@dataclass(frozen=True)
class Progress:
    """The state of a running solve, as reported to the caller.

    Attributes
    ----------
    seconds : float
        Since the solve began.
    incumbent : int or None
        Cost of the best schedule within the budget.
    bound : int
        Best proved lower bound on the cost.
    source : str
        Who found it.
    """

    seconds: float
    incumbent: int | None
    bound: int
    source: str

    @property
    def gap(self) -> float | None:
        """Incumbent over bound, less one."""
        return None if self.incumbent is None else _gap(self.incumbent, self.bound)

    def __str__(self) -> str:
        incumbent = "-" if self.incumbent is None else f"{self.incumbent:,}"
        gap = "-" if self.gap is None else f"{self.gap:.3%}"
        return (
            f"{self.seconds:7.1f} s  incumbent {incumbent}  bound {self.bound:,}  gap {gap}  "
            f"({self.source})"
        )


@dataclass(frozen=True)
class Result:
    """A judged answer.

    Attributes
    ----------
    problem : Problem
    solver : str
    status : Status
    schedule, trace : the schedule and its replay, or None if none fits the budget
    lower_bound : int
        On the objective. At least what running every op once costs (for the cost objective) or
        the largest working set (for the peak objective); those hold in free order.
    scope : Scope
        The class of schedules that `lower_bound` speaks of.
    closest_peak : int or None
        The peak of the solver's schedule, also where it is over the budget.
    runtime : float
        Seconds.
    seed : int
    options : mapping
    message : str
    """

    problem: Problem = field(repr=False)
    solver: str
    status: Status
    schedule: Schedule | None = field(repr=False)
    trace: Trace | None
    lower_bound: int
    scope: Scope
    closest_peak: int | None
    runtime: float
    seed: int
    options: Mapping[str, Any]
    message: str = ""

    @property
    def objective(self) -> int | None:
        """Cost (or peak, if that is the objective) of the schedule."""
        return None if self.trace is None else _objective(self.problem, self.trace)

    @property
    def gap(self) -> float | None:
        """Objective over lower bound, less one; None without a schedule."""
        return None if self.objective is None else _gap(self.objective, self.lower_bound)


Solver = Callable[..., Answer]
_registry: dict[str, Solver] = {}


def register(name: str) -> Callable[[Solver], Solver]:
    """Register a solver under a name; a decorator.

    A solver takes a `Problem` and returns an `Answer`. It may name any of the keywords
    `time_limit` (seconds), `seed` (int), `report` (a callable that takes a `Progress`), and
    options of its own with defaults.

    Examples
    --------
    >>> from pebble.solver import Answer, register
    >>> @register("my-keep-all")
    ... def my_keep_all(problem):
    ...     return Answer(Schedule.keep_all(problem.graph))
    >>> "my-keep-all" in solver_names()
    True
    >>> _ = _registry.pop("my-keep-all")
    """

    def add(solver: Solver) -> Solver:
        if name in _registry and _registry[name] is not solver:
            raise InvalidArgument(f"A solver called {name!r} is registered already.")
        _registry[name] = solver
        return solver

    return add


def solver_names() -> tuple[str, ...]:
    """The names of the registered solvers, sorted."""
    import_module("pebble.solvers")
    return tuple(sorted(_registry))


def get_solver(solver: str | Solver) -> tuple[str, Solver]:
    """Name and callable of a solver.

    Raises
    ------
    UnknownSolver
        If the name is not registered.
    """
    if callable(solver):
        return getattr(solver, "__name__", type(solver).__name__), solver
    names = solver_names()
    if solver not in _registry:
        raise UnknownSolver(
            f"There is no solver {solver!r}; choose one of {', '.join(names)}, "
            "or pass a callable that takes a Problem and returns an Answer."
        )
    return solver, _registry[solver]


def solve(
    problem: Problem,
    solver: str | Solver = "auto",
    *,
    time_limit: float = 60.0,
    seed: int = 0,
    report: Callable[[Progress], None] | None = None,
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
    if not time_limit > 0:
        raise InvalidArgument(f"The time limit is {time_limit!r}; it must be positive (seconds).")
    call = {"time_limit": float(time_limit), "seed": seed, "report": report or _ignore}
    started = time.perf_counter()
    if problem.working_set_bound > problem.budget:
        answer = Answer(None, infeasible=True, message=_too_small(problem))
    else:
        answer = function(problem, **_accepted(name, function, call, options))
    if not isinstance(answer, Answer):
        raise InvalidArgument(
            f"Solver {name!r} returned a {type(answer).__name__}; a solver returns an Answer."
        )
    return _judge(problem, name, answer, time.perf_counter() - started, seed, options)


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
        proved = _objective(problem, trace) <= bound and scope.contains(
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
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return {**call, **options}
    own = [key for key in list(parameters)[1:] if key not in call]
    unknown = [key for key in options if key not in own]
    if unknown:
        known = f"its options are {', '.join(own)}" if own else "it has no options"
        raise InvalidArgument(f"Solver {name!r} has no option {unknown[0]!r}; {known}.")
    return {**{key: value for key, value in call.items() if key in parameters}, **options}


def _objective(problem: Problem, trace: Trace) -> int:
    return trace.cost if problem.objective is Objective.COST else trace.peak


def _gap(objective: int, bound: int) -> float:
    if objective <= bound:
        return 0.0
    return objective / bound - 1 if bound > 0 else float("inf")


def _too_small(problem: Problem) -> str:
    worst = int(problem.working_sets.argmax())
    return (
        f"Op {problem.graph.ops[worst].name!r} alone needs {problem.working_set_bound} bytes "
        f"for its inputs, outputs and workspace, above the budget of {problem.budget}."
    )


def _ignore(progress: Progress) -> None:
    """The default report."""
