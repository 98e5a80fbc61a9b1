"""HiGHS on integer rows: in floating point, so that it finds and does not prove."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pebble.solvers.integer.outcome import Outcome
from pebble.solvers.integer.rows import Rows


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
