"""Commands on files: `solve` a graph, `show` a plan."""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from typing import Any

from pebble.cli.arguments import NOT_SOLVED, SOLVED, add_solving
from pebble.errors import InvalidArgument
from pebble.formatting import table
from pebble.graph import Graph
from pebble.graphfile import load_graph
from pebble.plan.families.family import Family
from pebble.plan.loading import load_plan
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.schema import shortened
from pebble.solver import Result, solve

_MOST_DIGITS = 100
_LARGEST = 10**30
"""Bytes, or percent: more than any machine has, and a number that prints."""


def add_solve(commands: Any) -> None:
    """Add the command ``solve``."""
    parser = commands.add_parser("solve", help="solve a pebbling problem in a file")
    parser.add_argument("file", help="a graph: text (n m / mem dur / u v) or JSON")
    parser.add_argument(
        "--budget", required=True, help="bytes, or a percentage of the baseline peak such as 80%%"
    )
    parser.add_argument(
        "--order", choices=("free", "fixed"), help="scope of the search, for solvers that have both"
    )
    add_solving(parser)
    parser.set_defaults(run=_solve)


def _solve(args: argparse.Namespace) -> int:
    graph = load_graph(args.file)
    baseline = simulate(graph, Schedule.keep_all(graph))
    problem = Problem(graph, parse_budget(args.budget, baseline.peak))
    options = {} if args.order is None else {"order": args.order}
    result = solve(
        problem,
        args.solver,
        time_limit=args.time_limit,
        seed=args.seed,
        display=args.display,
        **options,
    )
    if args.json:
        print(json.dumps(_result_json(result, baseline.peak)))
    else:
        print(_result_text(result, graph, baseline.peak))
    return SOLVED if result.schedule is not None else NOT_SOLVED


def parse_budget(text: str, baseline_peak: int) -> int:
    """Bytes from a number, or from a percentage of the baseline's peak (rounded down).

    Raises
    ------
    InvalidArgument

    Examples
    --------
    >>> parse_budget("80%", 1001), parse_budget("500", 1001)
    (800, 500)
    """
    number = _number(text.removesuffix("%"))
    if not 0 < number <= _LARGEST or (number < 1 and not text.endswith("%")):
        raise InvalidArgument(
            f"The budget is {shortened(text)}; it must be a positive number of bytes or a "
            "percentage of the baseline peak such as 80%."
        )
    return int(number * baseline_peak / 100) if text.endswith("%") else int(number)


def _number(text: str) -> Fraction:
    """The number in a text; -1 if it is none, or one whose digits alone would fill the memory."""
    _, _, exponent = text.lower().partition("e")
    try:
        far = bool(exponent) and abs(int(exponent)) > _MOST_DIGITS
        return Fraction(-1) if far or len(text) > _MOST_DIGITS else Fraction(text)
    except (ValueError, ZeroDivisionError):
        return Fraction(-1)


def _result_json(result: Result, baseline_peak: int) -> dict[str, Any]:
    trace = result.trace
    return {
        "status": str(result.status),
        "peak": None if trace is None else trace.peak,
        "cost": None if trace is None else trace.cost,
        "baseline_peak": baseline_peak,
        "baseline_cost": result.problem.graph.total_cost,
        "lower_bound": result.lower_bound,
        "bound_scope": str(result.scope),
        "gap": result.gap,
        "budget": result.problem.budget,
        "solver": result.solver,
        "seed": result.seed,
        "runtime": result.runtime,
        "message": result.message,
        "order": None if result.schedule is None else list(result.schedule.order),
    }


def _result_text(result: Result, graph: Graph, baseline_peak: int) -> str:
    base = max(graph.total_cost, 1)
    budget = result.problem.budget
    title = (
        f"{graph.name}: {len(graph.ops)} ops, budget {budget:,} "
        f"({100 * budget / max(baseline_peak, 1):.1f} % of the baseline peak), "
        f"{result.solver}, {result.runtime:.1f} s: {result.status}"
    )
    rows = [["no plan", f"{baseline_peak:,}", f"{graph.total_cost:,}", "0.0000 %"]]
    if result.trace is not None:
        extra = f"{100 * result.trace.recomputed_cost / base:.4f} %"
        rows.append(["this schedule", f"{result.trace.peak:,}", f"{result.trace.cost:,}", extra])
    rows.append(
        [
            f"lower bound ({result.scope})",
            f"{result.problem.working_set_bound:,}",
            f"{result.lower_bound:,}",
            f"{100 * (result.lower_bound / base - 1):.4f} %",
        ]
    )
    text = f"{title}\n\n{table(['', 'peak', 'cost', 'extra compute'], rows)}"
    return f"{text}\n\n{result.message}" if result.message else text


def add_show(commands: Any) -> None:
    """Add the command ``show``."""
    parser = commands.add_parser("show", help="print a saved plan")
    parser.add_argument("plan", help="a file that save of a plan or family wrote")
    parser.add_argument("--json", action="store_true", help="print its figures as JSON")
    parser.set_defaults(run=_show)


def _show(args: argparse.Namespace) -> int:
    plan = load_plan(args.plan)
    if not args.json:
        print(plan)
        return SOLVED
    figures = {
        key: value
        for key, value in plan.to_json().items()
        if key not in ("graph", "schedule", "format", "step", "schedules")
    }
    if isinstance(plan, Family):
        figures["largest_batches"] = {n: plan.largest(n) for n in plan.table_lengths()}
        print(json.dumps(figures, default=str))
        return SOLVED
    figures |= {
        "peak_bytes": plan.peak_bytes,
        "baseline_peak_bytes": plan.baseline_peak_bytes,
        "overhead": plan.overhead,
        "gap": plan.gap,
        "memory": plan.memory,
    }
    print(json.dumps(figures, default=str))
    return SOLVED
