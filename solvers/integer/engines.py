"""Integer rows given to a solver of OR-Tools: CP-SAT, which proves, or HiGHS, which does not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pebble.solvers.integer.stage_model import Rows


@dataclass(frozen=True)
class Outcome:
    """What an engine found.

    Attributes
    ----------
    true : list of bool or None
        ``true[literal]`` for every literal of a solution.
    bound : int
        Proved lower bound on the objective; 0 from an engine that cannot prove.
    impossible : bool
        Proved: the rows have no solution.
    """

    true: list[bool] | None
    bound: int = 0
    impossible: bool = False


class Halt:
    """Stops a search of CP-SAT, and those that would follow it, from another thread."""

    def __init__(self) -> None:
        self.called = False
        self._running: Any = None

    def call(self) -> None:
        """Stop now."""
        self.called = True
        if self._running is not None:
            self._running.stop_search()

    def end(self, thread: threading.Thread) -> None:
        """Stop, and wait for the thread that searches; it may just be about to begin."""
        while thread.is_alive():
            self.call()
            thread.join(0.05)

    def watch(self, solver: Any) -> None:
        """What to stop: the solver that is about to run, or None."""
        self._running = solver


Found = Callable[[list[bool]], None]
Bound = Callable[[int], None]


def run_cpsat(
    rows: Rows,
    objective: Sequence[tuple[int, int]],
    *,
    time_limit: float,
    seed: int = 0,
    workers: int = 1,
    hint: Sequence[bool] | None = None,
    on_solution: Found | None = None,
    on_bound: Bound | None = None,
    work: float | None = None,
    relax: bool = False,
    halt: Halt | None = None,
    log: bool = False,
) -> Outcome:
    """Least objective under the rows, in integers throughout.

    Parameters
    ----------
    rows : Rows
    objective : sequence of (coefficient, literal)
        Non-negative coefficients; empty: any solution.
    time_limit : float
        Seconds.
    seed, workers : int
        One worker repeats itself where the time limit does not cut it short.
    hint : sequence of bool, optional
        ``hint[literal]``: where to begin.
    on_solution, on_bound : callable, optional
        Called with each solution (as ``true[literal]``) and each bound.
    work : float, optional
        Limit in CP-SAT's deterministic seconds, which no clock measures.
    relax : bool
        Use linear relaxations: for few rows with many terms, such as one knapsack.
    halt : Halt, optional
        Stops it from another thread.
    log : bool
        Print CP-SAT's own log.
    """
    from ortools.sat.python import cp_model

    if rows.impossible:
        return Outcome(None, impossible=True)
    model = cp_model.CpModel()
    literals = [model.new_bool_var("") for _ in range(rows.n_variables)]
    for terms, coefficients, upper in rows.rows:
        chosen = [literals[i - 2] for i in terms]
        positive = sum(c > 0 for c in coefficients)
        if upper == positive - 1 and all(c in (1, -1) for c in coefficients):
            model.add_bool_or(x.negated() if c > 0 else x for c, x in zip(coefficients, chosen))
        else:
            model.add(cp_model.LinearExpr.weighted_sum(chosen, coefficients) <= upper)
    if objective:
        chosen = [literals[i - 2] for _, i in objective]
        model.minimize(cp_model.LinearExpr.weighted_sum(chosen, [c for c, _ in objective]))
    if hint is not None:
        for literal, value in zip(literals, hint[2:]):
            model.add_hint(literal, bool(value))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max(time_limit, 0.01)
    solver.parameters.num_workers = workers
    if work is not None:
        solver.parameters.max_deterministic_time = work
    solver.parameters.random_seed = seed
    # Many small relaxations or probes cost more than they prune: measured 2 to 8 times slower.
    solver.parameters.linearization_level = 1 if relax else 0
    solver.parameters.cp_model_probing_level = 0
    solver.parameters.log_search_progress = log
    if on_bound is not None:
        tell = on_bound
        solver.best_bound_callback = lambda bound: tell(_round_up(bound))
    halt = halt or Halt()
    halt.watch(solver)
    if halt.called:
        return Outcome(None)
    status = solver.solve(model, _listener(literals, on_solution))
    halt.watch(None)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        true = [False, True, *(bool(solver.value(x)) for x in literals)]
        bound = _round_up(solver.best_objective_bound) if objective else 0
        return Outcome(true, bound)
    impossible = status == cp_model.INFEASIBLE
    known = objective and not impossible and status == cp_model.UNKNOWN
    return Outcome(None, max(_round_up(solver.best_objective_bound), 0) if known else 0, impossible)


def _listener(literals: Sequence[Any], on_solution: Found | None) -> Any:
    if on_solution is None:
        return None
    from ortools.sat.python import cp_model

    tell = on_solution

    class Listener(cp_model.CpSolverSolutionCallback):
        def on_solution_callback(self) -> None:
            tell([False, True, *(bool(self.value(x)) for x in literals)])

    return Listener()


def run_highs(rows: Rows, objective: Sequence[tuple[int, int]], *, time_limit: float) -> Outcome:
    """Least objective under the rows by a mixed-integer solver in floating point.

    Rows are scaled by their largest coefficient. Neither its bound nor "infeasible" is passed
    on: with badly scaled rows both have been wrong.
    """
    from ortools.linear_solver.python import model_builder

    if rows.impossible:
        return Outcome(None, impossible=True)
    model: Any = model_builder.Model()  # type: ignore[no-untyped-call]
    literals = [model.new_bool_var(f"x{i}") for i in range(rows.n_variables)]
    for terms, coefficients, upper in rows.rows:
        scale = float(max(map(abs, coefficients)))
        chosen = [literals[i - 2] for i in terms]
        scaled = [c / scale for c in coefficients]
        model.add(model_builder.LinearExpr.weighted_sum(chosen, scaled) <= upper / scale)
    scale = float(max((c for c, _ in objective), default=1))
    chosen = [literals[i - 2] for _, i in objective]
    model.minimize(model_builder.LinearExpr.weighted_sum(chosen, [c / scale for c, _ in objective]))
    solver = model_builder.Solver("highs")
    solver.set_time_limit_in_seconds(max(time_limit, 0.01))
    status = solver.solve(model)
    if status in (model_builder.SolveStatus.OPTIMAL, model_builder.SolveStatus.FEASIBLE):
        return Outcome([False, True, *(bool(solver.value(x) > 0.5) for x in literals)])
    return Outcome(None)


def _round_up(bound: float) -> int:
    """A bound on an integer objective, from the float that carries it."""
    return max(int(-(-(bound - 1e-6) // 1)), 0)
