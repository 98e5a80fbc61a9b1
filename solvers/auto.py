"""The portfolio: a plan at once, a better one soon, a proof where the graph is small enough.

Fast heuristics give the first schedule, annealing improves whatever is best, an exact program
runs beside it on small graphs, and whoever finds a better schedule hands it to the others. A bound
for any order is proved beside it and ends the search where it is met.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from pebble.errors import InvalidArgument
from pebble.problem import Problem
from pebble.schedule import Schedule
from pebble.solver import Answer, Progress, register, schedules_of
from pebble.solvers.annealing.search import Search
from pebble.solvers.portfolio.exact import GRACE
from pebble.solvers.portfolio.fixed_order import cheapest_in_order
from pebble.solvers.portfolio.free_order import best_in_any_order

ORDERS = ("free", "fixed")


@register(
    "auto",
    summary=(
        "a portfolio: heuristics, `priced`, annealing, exact search on small "
        'graphs; anytime; `order="fixed"` keeps the reference order'
    ),
    bound="any order: minimum cuts, one-moment integer programs; fixed order: `ilp`",
)
def auto(
    problem: Problem,
    *,
    time_limit: float = 60.0,
    seed: int = 0,
    report: Callable[[Progress], None] = lambda progress: None,
    start: Schedule | Iterable[Schedule] = (),
    threads: int = 2,
    order: str = "free",
) -> Answer:
    """The best schedule that any of the solvers finds, and the best bound.

    It returns before the time limit if the gap is closed (on large graphs: below `GOOD`), or if
    annealing has gone on for long without an improvement. What the annealer does is fixed by the
    seed; where an exact solver runs beside it, what that one finds enters when it comes, and the
    time limit cuts. Solvers that others have registered with ``portfolio=True`` join it: each is
    asked once, before annealing begins, and the message says which of them failed.

    Parameters
    ----------
    start : Schedule or iterable of Schedule
        Known schedules, such as those of smaller budgets: the result is never worse than the best
        of them.
    threads : int
        Cores to use.
    order : {"free", "fixed"}
        "fixed": first executions stay in the reference order, as in the formulations of Checkmate
        and MOCCASIN.

    Examples
    --------
    >>> import networkx as nx
    >>> from pebble.graph import Graph
    >>> from pebble.solver import solve
    >>> chain = Graph.from_networkx(nx.path_graph(5, create_using=nx.DiGraph))
    >>> solve(Problem(chain, 2)).status
    <Status.OPTIMAL: 'optimal'>
    """
    if order not in ORDERS:
        raise InvalidArgument(f"There is no order {order!r}; choose one of {', '.join(ORDERS)}.")
    deadline = time.perf_counter() + max(time_limit - GRACE, 0.5 * time_limit)
    known = schedules_of(start)
    if order == "fixed":
        return cheapest_in_order(
            problem, deadline=deadline, seed=seed, report=report, start=known, threads=threads
        )
    search = Search(problem, seed=seed, report=report, deadline=deadline)
    for schedule in known:
        search.offer(schedule.order, "start")
    return best_in_any_order(search, threads)
