"""The command line: ``python -m pebble demo | fit | optimize | solve | show | versions | game``.

Exit status: 0 solved, 1 not solved, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
from collections.abc import Sequence
from typing import Any

from pebble._version import __version__
from pebble.errors import InfeasibleBudget, InvalidArgument, PebbleError
from pebble.games.command import add_parser as add_game
from pebble.graph import Graph
from pebble.graphfile import load_graph
from pebble.plan.optimization import display_progress, optimize
from pebble.plan.plan import load_plan
from pebble.plan.report import table
from pebble.problem import Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Result, solve

SOLVED, NOT_SOLVED, USAGE = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except InfeasibleBudget as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return NOT_SOLVED
    except PebbleError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pebble", description="Fit a PyTorch training step into a memory budget."
    )
    parser.add_argument("--version", action="version", version=f"pebble {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_fit(commands)
    _add_optimize(commands)
    _add_solve(commands)
    _add_show(commands)
    _add_versions(commands)
    add_game(commands)
    return parser


def _add_solving(parser: argparse.ArgumentParser, time_limit: float = 60.0) -> None:
    parser.add_argument("--solver", default="auto", help="name of a solver (default: auto)")
    parser.add_argument("--time-limit", type=float, default=time_limit, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--display", action="store_true", help="show progress while solving")
    parser.add_argument("--json", action="store_true", help="print JSON")


# -- demo ----------------------------------------------------------------------------------------


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser("demo", help="plan, apply and measure a small GPT-2")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    from pebble.cli.demo import run_demo

    report = run_demo(progress=None if args.json else lambda line: print(line, flush=True))
    print(json.dumps(report.data()) if args.json else str(report))
    return SOLVED if report.ok else NOT_SOLVED


# -- fit -----------------------------------------------------------------------------------------


def _add_fit(commands: Any) -> None:
    parser = commands.add_parser(
        "fit",
        help="the fastest recipe that fine-tunes a model on a card",
        description="Plans on fake tensors: nothing is allocated, no GPU is touched.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help="a named shape such as llama-7b")
    which.add_argument("--config", metavar="FILE", help="a Hugging Face config.json")
    parser.add_argument("--method", default="lora", choices=("full", "lora", "qlora"))
    parser.add_argument("--budget-gb", type=float, default=15.0, metavar="GB")
    parser.add_argument("--seq-len", type=int, default=None)
    parser.add_argument("--batch", type=int, default=32, help="effective batch size (default: 32)")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--precision", help="fp32, bf16, fp16, bf16-mixed or fp16-mixed")
    parser.add_argument("--optimizer", default="adamw", help="names, or 'none' (default: adamw)")
    parser.add_argument("--quantize", choices=("int8", "4bit", "4bit-double"))
    parser.add_argument("--lora-rank", type=int, default=16)
    parser.add_argument("--gpu", help="whose speed the times are, such as t4, a100, h100")
    parser.add_argument("--time-limit", type=float, default=40.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_fit)


def _fit(args: argparse.Namespace) -> int:
    from pebble.finetune.card_fit import fit

    names = args.optimizer.split(",")
    answer = fit(
        args.model or args.config,
        method=args.method,
        budget_gb=args.budget_gb,
        seq_len=args.seq_len,
        batch=args.batch,
        devices=args.devices,
        precision=args.precision,
        optimizers=[None if name == "none" else name for name in names],
        quantize=args.quantize,
        lora_rank=args.lora_rank,
        gpu=args.gpu,
        time_limit=args.time_limit,
        seed=args.seed,
    )
    print(json.dumps(answer.data()) if args.json else answer)
    return SOLVED


# -- optimize ------------------------------------------------------------------------------------


def _add_optimize(commands: Any) -> None:
    parser = commands.add_parser(
        "optimize",
        help="plan the training step of a named shape or a Hugging Face configuration",
        description="Plans on fake tensors: nothing is allocated, no GPU is touched.",
    )
    parser.add_argument(
        "model", help="a named shape such as llama-7b, or the path of a config.json"
    )
    parser.add_argument("--budget-gb", type=float, required=True, metavar="GB")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--seq-len", type=int, default=None)
    parser.add_argument("--dtype", default="bf16", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--optimizer", default="adamw", help="or 'none' (default: adamw)")
    parser.add_argument("--method", default="full", choices=("full", "lora"))
    parser.add_argument("--lora-rank", type=int, default=8)
    parser.add_argument(
        "--outputs", default="all", choices=("all", "loss"),
        help="loss: the step returns its loss alone, and holds no logits for it",
    )  # fmt: skip
    parser.add_argument(
        "--accumulation-steps", type=int, default=1, metavar="N", help="micro-batches a step"
    )
    parser.add_argument("--costs", default="auto", help="flops, roofline:<device> (default: auto)")
    parser.add_argument("--output", metavar="FILE", help="where to write the plan")
    _add_solving(parser, time_limit=20.0)
    parser.set_defaults(run=_optimize)


def _optimize(args: argparse.Namespace) -> int:
    from pebble.finetune.named_models import build_shape

    model, inputs = build_shape(
        args.model,
        dtype=args.dtype,
        batch_size=args.batch_size,
        seq_len=args.seq_len,
        lora_rank=args.lora_rank if args.method == "lora" else None,
    )
    plan = optimize(
        model,
        inputs,
        budget_gb=args.budget_gb,
        optimizer=None if args.optimizer == "none" else args.optimizer,
        solver=args.solver,
        time_limit=args.time_limit,
        costs=args.costs,
        seed=args.seed,
        outputs=args.outputs,
        accumulation_steps=args.accumulation_steps,
        display=args.display,
    )
    if args.output:
        plan.save(args.output)
    print(json.dumps(plan.to_json(), default=str) if args.json else plan)
    return SOLVED


# -- solve ---------------------------------------------------------------------------------------


def _add_solve(commands: Any) -> None:
    parser = commands.add_parser("solve", help="solve a pebbling problem in a file")
    parser.add_argument("file", help="a graph: text (n m / mem dur / u v) or JSON")
    parser.add_argument(
        "--budget", required=True, help="bytes, or a percentage of the baseline peak such as 80%%"
    )
    parser.add_argument(
        "--order", choices=("free", "fixed"), help="scope of the search, for solvers that have both"
    )
    _add_solving(parser)
    parser.set_defaults(run=_solve)


def _solve(args: argparse.Namespace) -> int:
    graph = load_graph(args.file)
    baseline = simulate(graph, Schedule.keep_all(graph))
    problem = Problem(graph, parse_budget(args.budget, baseline.peak))
    options = {} if args.order is None else {"order": args.order}
    with display_progress(args.display) as report:
        result = solve(
            problem,
            args.solver,
            time_limit=args.time_limit,
            seed=args.seed,
            report=report,
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
    from fractions import Fraction

    try:
        number = Fraction(text.removesuffix("%"))
    except (ValueError, ZeroDivisionError):
        number = Fraction(-1)
    if number <= 0 or (number < 1 and not text.endswith("%")):
        raise InvalidArgument(
            f"The budget is {text!r}; it must be a positive number of bytes or a percentage of "
            "the baseline peak such as 80%."
        )
    return int(number * baseline_peak / 100) if text.endswith("%") else int(number)


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


# -- show, versions ------------------------------------------------------------------------------


def _add_show(commands: Any) -> None:
    parser = commands.add_parser("show", help="print a saved plan")
    parser.add_argument("plan", help="a file that Plan.save wrote")
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
        if key not in ("graph", "schedule", "format")
    }
    figures |= {
        "peak_bytes": plan.peak_bytes,
        "baseline_peak_bytes": plan.baseline_peak_bytes,
        "overhead": plan.overhead,
        "gap": plan.gap,
        "memory": plan.memory,
    }
    print(json.dumps(figures, default=str))
    return SOLVED


def _add_versions(commands: Any) -> None:
    parser = commands.add_parser("versions", help="versions of what matters, for a bug report")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_versions)


def _versions(args: argparse.Namespace) -> int:
    versions = {"pebble": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "networkx", "ortools", "numba", "transformers", "matplotlib"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    versions["platform"] = platform.platform()
    if args.json:
        print(json.dumps(versions))
    else:
        print("\n".join(f"{name:14}{version}" for name, version in versions.items()))
    return SOLVED
