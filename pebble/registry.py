"""The solvers that have a name, and what each states about itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from pebble.contract import Capabilities, Solver
from pebble.errors import InvalidArgument, UnknownSolver

DEFAULT = "auto"


@dataclass(frozen=True)
class Registration:
    """What a registered solver states about itself.

    Attributes
    ----------
    name : str
    solver : callable
    summary : str
        What it does, in one sentence.
    bound : str
        What its lower bound speaks of, such as "any order"; "-" without one.
    portfolio : bool
        Whether `auto` may run it beside its own strategies.
    """

    name: str
    solver: Solver
    summary: str
    bound: str
    portfolio: bool

    @property
    def capabilities(self) -> Capabilities:
        """The keywords that it takes."""
        return Capabilities.of(self.solver)


_registry: dict[str, Registration] = {}


def register(
    name: str, *, summary: str = "", bound: str = "-", portfolio: bool = False
) -> Callable[[Solver], Solver]:
    """Register a solver under a name; a decorator.

    A solver takes a `Problem` and returns an `Answer`. It may name any of the following keywords,
    with defaults, and is given those that it names; others are options of its own.

    ``time_limit`` : float
        Seconds for the whole call. It returns what it has by then.
    ``seed`` : int
        The same seed gives the same schedule wherever time does not cut the search short.
    ``report`` : callable
        Called with a `Progress` whenever its incumbent or its bound improve.
    ``start`` : Schedule or iterable of Schedule
        Known schedules to begin from, within the budget or not.
    ``threads`` : int
        Cores to use.
    ``halt`` : Halt
        It returns soon after ``halt.called`` is true.

    Parameters
    ----------
    name : str
    summary : str
        What it does, in one sentence; the default is the first line of its docstring.
    bound : str
        What its lower bound speaks of, such as "any order"; "-" without one.
    portfolio : bool
        Whether it joins `auto`, which then runs it with the best known schedule as its start and
        takes over what it finds, once the referee has replayed that. Its bound is not taken over.

    Raises
    ------
    InvalidArgument
        If another solver has that name, see `unregister`.

    Examples
    --------
    >>> from pebble.answers import Answer
    >>> from pebble.schedule import Schedule
    >>> @register("my-keep-all", summary="every op once", portfolio=True)
    ... def my_keep_all(problem):
    ...     return Answer(Schedule.keep_all(problem.graph))
    >>> "my-keep-all" in solver_names()
    True
    >>> unregister("my-keep-all")
    """

    def add(solver: Solver) -> Solver:
        if name in _registry and _registry[name].solver is not solver:
            raise InvalidArgument(
                f"A solver called {name!r} is registered already; choose another name."
            )
        said = summary or (solver.__doc__ or "").strip().split("\n")[0]
        _registry[name] = Registration(name, solver, said, bound, portfolio)
        return solver

    return add


def unregister(name: str) -> None:
    """Forget a registered solver, so that its name is free; an unknown name is no error."""
    _registry.pop(name, None)


def registrations() -> tuple[Registration, ...]:
    """What all registered solvers state about themselves: `auto` first, then by name."""
    import_module("pebble.solvers")
    return tuple(sorted(_registry.values(), key=lambda entry: (entry.name != DEFAULT, entry.name)))


def solver_names() -> tuple[str, ...]:
    """The names of the registered solvers, sorted."""
    return tuple(sorted(entry.name for entry in registrations()))


def solver_rows() -> list[tuple[str, str, str]]:
    """Name, what it does, and what its bound speaks of: the README's table of solvers.

    Examples
    --------
    >>> [name for name, _, _ in solver_rows()][:3]
    ['auto', 'anneal', 'chain']
    """
    return [(entry.name, entry.summary, entry.bound) for entry in registrations()]


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
    return solver, _registry[solver].solver


def capabilities(solver: str | Solver) -> Capabilities:
    """The keywords that a solver takes, such as ``start``; nobody else inspects signatures.

    Raises
    ------
    UnknownSolver
        If the name is not registered.

    Examples
    --------
    >>> capabilities("auto").start, capabilities("greedy").start
    (True, False)
    """
    return Capabilities.of(get_solver(solver)[1])
