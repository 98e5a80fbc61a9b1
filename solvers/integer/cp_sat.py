"""CP-SAT on integer rows: it works in integers throughout, and proves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pebble.solver import Halt
from pebble.solvers.integer.outcome import Outcome
from pebble.solvers.integer.rows import Rows

Found = Callable[[list[bool]], None]
Bound = Callable[[int], None]


@dataclass(frozen=True)
class Effort:
    """How long CP-SAT searches, and how.

    Attributes
    ----------
    time_limit : float
        Seconds.
    seed, threads : int
        One worker repeats itself where the time limit does not cut it short.
    work : float, optional
        Limit in CP-SAT's deterministic seconds, which no clock measures.
    relax : bool
        Use linear relaxations: for few rows with many terms, such as one knapsack.
    """

    time_limit: float
    seed: int = 0
    threads: int = 1
    work: float | None = None
    relax: bool = False


def run_cpsat(
    rows: Rows,
    objective: Sequence[tuple[int, int]],
    effort: Effort,
    *,
    hint: Sequence[bool] | None = None,
    on_solution: Found | None = None,
    on_bound: Bound | None = None,
    halt: Halt | None = None,
) -> Outcome:
    """Least objective under the rows, in integers throughout.

    Parameters
    ----------
    rows : Rows
    objective : sequence of (coefficient, literal)
        Non-negative coefficients; empty: any solution.
    effort : Effort
    hint : sequence of bool, optional
        ``hint[literal]``: where to begin.
    on_solution, on_bound : callable, optional
        Called with each solution (as ``true[literal]``) and each bound.
    halt : Halt, optional
        Stops it from another thread.
    """
    from ortools.sat.python import cp_model

    if rows.impossible:
        return Outcome(None, impossible=True)
    model, literals = _written(rows, objective)
    if hint is not None:
        for literal, value in zip(literals, hint[2:]):
            model.add_hint(literal, bool(value))
    solver = _configured(effort)
    if on_bound is not None:
        tell = on_bound
        solver.best_bound_callback = lambda bound: tell(_round_up(bound))
    halt = halt or Halt()
    halt.watch(solver.stop_search)
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


def _written(rows: Rows, objective: Sequence[tuple[int, int]]) -> tuple[Any, list[Any]]:
    """The model of the rows, and its variables."""
    from ortools.sat.python import cp_model

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
    return model, literals


def _configured(effort: Effort) -> Any:
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max(effort.time_limit, 0.01)
    solver.parameters.num_workers = effort.threads
    if effort.work is not None:
        solver.parameters.max_deterministic_time = effort.work
    solver.parameters.random_seed = effort.seed
    # Many small relaxations or probes cost more than they prune: measured 2 to 8 times slower.
    solver.parameters.linearization_level = 1 if effort.relax else 0
    solver.parameters.cp_model_probing_level = 0
    return solver


def _listener(literals: Sequence[Any], on_solution: Found | None) -> Any:
    if on_solution is None:
        return None
    from ortools.sat.python import cp_model

    tell = on_solution

    class Listener(cp_model.CpSolverSolutionCallback):
        def on_solution_callback(self) -> None:
            tell([False, True, *(bool(self.value(x)) for x in literals)])

    return Listener()


def _round_up(bound: float) -> int:
    """A bound on an integer objective, from the float that carries it."""
    return max(int(-(-(bound - 1e-6) // 1)), 0)
