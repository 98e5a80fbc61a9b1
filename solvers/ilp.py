"""Checkmate's integer program (MLSys 2020), pruned by an incumbent and solved in integers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pebble.errors import InvalidArgument
from pebble.problem import Objective, Problem
from pebble.schedule import Schedule
from pebble.solver import Answer, Halt, Progress, register, schedules_of
from pebble.solvers.integer.cost_ladder import CostLadder

ENGINES = ("cpsat", "highs")


@register(
    "ilp",
    summary="Checkmate's formulation (MLSys 2020), exact in fixed order up to a few hundred ops",
    bound="fixed order",
)
def ilp(
    problem: Problem,
    *,
    time_limit: float = 60.0,
    seed: int = 0,
    report: Callable[[Progress], None] | None = None,
    engine: str = "cpsat",
    threads: int = 1,
    start: Schedule | Iterable[Schedule] = (),
    halt: Halt | None = None,
) -> Answer:
    """The cheapest schedule in the reference order, with a proof where time allows.

    The class is Checkmate's: first executions in the reference order and, between two of them,
    each op at most once, in reference order. The cost of recomputation is limited, first to a
    share of what an incumbent (from `greedy`) needs, then to more: an op that costs more than
    the limit is not recomputed, runs and copies without a use are left out, and memory and cost
    are divided by their greatest common divisors. "Infeasible below the limit" is a bound, and
    below the incumbent a proof that it is optimal.

    Parameters
    ----------
    engine : {"cpsat", "highs"}
        CP-SAT works in integers and gives bounds. HiGHS works in floating point: its schedules
        are replayed like all others, but it proves nothing here.
    threads : int
        Threads of CP-SAT; one repeats itself.
    start : Schedule or iterable of Schedule
        Schedules to begin from; those in the class and within the budget count.
    halt : Halt, optional
        Stops the search from another thread.

    Returns
    -------
    Answer
        Its bound and its infeasibility speak of the fixed order. Where the program is too large
        (`LARGEST_MODEL`) a message says so, and there is no schedule but one of its own.
    """
    if engine not in ENGINES:
        raise InvalidArgument(f"There is no engine {engine!r}; choose one of {', '.join(ENGINES)}.")
    search = CostLadder(problem, time_limit, seed, report, engine, threads, halt or Halt())
    search.begin(schedules_of(start))
    if problem.objective is Objective.PEAK:
        return search.least_peak()
    return search.least_cost()
