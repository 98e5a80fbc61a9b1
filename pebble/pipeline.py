"""`optimize`: from a model and a budget to a plan. The pipeline and nothing else."""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.plan import Plan, live_kinds
from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.report import gigabytes
from pebble.schedule import Schedule
from pebble.solver import Progress, Result, Solver, get_solver, solve

if TYPE_CHECKING:
    import torch

    from pebble.step import Step

logger = logging.getLogger("pebble")


def optimize(
    model: Any,
    inputs: Any = None,
    *,
    budget_gb: float | None = None,
    budget_bytes: int | None = None,
    optimizer: str | torch.optim.Optimizer | None = "adamw",
    loss: Callable[[Any], torch.Tensor] | None = None,
    solver: str | Solver = "auto",
    time_limit: float = 60.0,
    costs: str = "auto",
    seed: int = 0,
    batch_size: int | None = None,
    seq_len: int | None = None,
    display: bool = False,
    **options: Any,
) -> Plan:
    """Plan a training step of `model` within a memory budget, with the least recomputation.

    Parameters
    ----------
    model : nn.Module, GraphModule or ExportedProgram
        In the mode it trains in. Real or fake tensors.
    inputs : optional
        A tensor, a tuple of positional or a mapping of keyword arguments of the shapes you train
        on. Inferred for traced programs, Hugging Face and Lightning models.
    budget_gb, budget_bytes : float, int
        For the whole step: parameters, gradients, optimizer state, buffers, inputs, activations
        and temporaries. One GB is 10**9 bytes. Pass one of the two.
    optimizer : str, torch.optim.Optimizer or None
        "sgd", "momentum", "adam", "adamw", "adamw8bit" ... ; None: forward and backward only.
    loss : callable, optional
        From the model's outputs to the scalar loss. Default: ``.loss``, else a scalar output,
        else the sum of the first output.
    solver : str or callable
        See `pebble.solvers`.
    time_limit : float
        Seconds for the solver.
    costs : "auto", "flops", "roofline:<device>" or "profile"
    seed : int
    batch_size, seq_len : int, optional
        For inferred inputs of Hugging Face models.
    display : bool
        Log time, incumbent, bound and gap while solving, at most once a second.
    **options
        Of the solver.

    Returns
    -------
    Plan

    Raises
    ------
    InfeasibleBudget
        If no plan fits; says the least budget known to work.
    InvalidArgument, InputsRequired, CaptureError, UnknownSolver

    Examples
    --------
    >>> import torch, pebble
    >>> net = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(4)])
    >>> plan = pebble.optimize(net, torch.ones(256, 64), budget_gb=0.001)
    >>> plan.peak_bytes <= plan.budget_bytes
    True
    """
    from pebble.step import trace_step

    budget = whole_budget(budget_gb, budget_bytes)
    get_solver(solver)
    step = trace_step(
        model,
        inputs,
        loss=loss,
        optimizer=optimizer,
        costs=costs,
        batch_size=batch_size,
        seq_len=seq_len,
    )
    return plan_step(
        step, budget, solver=solver, time_limit=time_limit, seed=seed, display=display, **options
    )


def plan_step(
    step: Step,
    budget_bytes: int,
    *,
    solver: str | Solver = "auto",
    time_limit: float = 60.0,
    seed: int = 0,
    display: bool = False,
    start: Schedule | None = None,
    **options: Any,
) -> Plan:
    """Plan a traced step; `optimize` for many budgets of one step.

    Parameters
    ----------
    start : Schedule, optional
        A known schedule (of a smaller budget, say): given to a solver that can begin with it, and
        kept if the solver finds none cheaper.

    Raises
    ------
    InfeasibleBudget
    """
    room = budget_bytes - step.resident.total
    if room < 0 or step.resident.optimizer_step_peak > budget_bytes:
        raise _infeasible(step, budget_bytes, None, time_limit, seed)
    problem = Problem(step.graph, room)
    options |= starting_options(solver, start)
    with display_progress(display) as report:
        result = solve(problem, solver, time_limit=time_limit, seed=seed, report=report, **options)
    result = best_of(result, start)
    if result.schedule is None:
        raise _infeasible(step, budget_bytes, result, time_limit, seed)
    return Plan(
        budget_bytes=budget_bytes,
        problem=problem,
        schedule=result.schedule,
        resident=step.resident,
        status=result.status,
        lower_bound=result.lower_bound,
        scope=result.scope,
        solver=result.solver,
        seed=seed,
        runtime=result.runtime,
        options=dict(result.options),
        origin=step.origin,
        workspace_measured=step.workspace_measured,
        step=step,
    )


def starting_options(solver: str | Solver, start: Schedule | None) -> dict[str, Any]:
    """The option that hands a known schedule to a solver, if it has one."""
    takes = "start" in inspect.signature(get_solver(solver)[1]).parameters
    return {"start": start} if takes and start is not None else {}


def best_of(result: Result, start: Schedule | None) -> Result:
    """The result, or `start` in its place where that fits the budget at a lower cost."""
    if start is None:
        return result
    known = solve(result.problem, _give(start))
    if known.trace is None or (result.trace and result.trace.cost <= known.trace.cost):
        return result
    return replace(known, solver=result.solver, runtime=result.runtime, seed=result.seed)


def _give(schedule: Schedule) -> Solver:
    from pebble.solver import Answer

    def given(problem: Problem) -> Answer:
        return Answer(schedule)

    return given


def whole_budget(budget_gb: float | None, budget_bytes: int | None) -> int:
    """The budget in bytes.

    Raises
    ------
    InvalidArgument
        If none or both are given, or it is not a positive number.
    """
    if (budget_gb is None) == (budget_bytes is None):
        raise InvalidArgument("Pass one of budget_gb (10**9 bytes) and budget_bytes.")
    if budget_bytes is None:
        assert budget_gb is not None
        return int(_positive("budget_gb", budget_gb) * 1e9)
    return int(_positive("budget_bytes", budget_bytes))


def _positive(name: str, value: float) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise InvalidArgument(f"{name} is {value!r}; it must be a positive finite number.")
    return value


# -- when nothing fits -----------------------------------------------------------------------


def least_budget(step: Step, *, time_limit: float = 30.0, seed: int = 0) -> tuple[int, Schedule]:
    """The least whole-step budget known to work, and the schedule that shows it."""
    graph = step.graph
    top = Problem(graph, simulate(graph, Schedule.keep_all(graph)).peak, Objective.PEAK)
    result = solve(top, "minpeak", time_limit=time_limit, seed=seed)
    schedule = result.schedule or Schedule.keep_all(graph)
    return step.resident.whole_step_peak(simulate(graph, schedule).peak), schedule


def _infeasible(
    step: Step, budget: int, result: Result | None, time_limit: float, seed: int
) -> InfeasibleBudget:
    least, schedule = least_budget(step, time_limit=min(time_limit, 20.0), seed=seed)
    fits = least <= budget
    if fits:
        solver = "The solver" if result is None else f"Solver {result.solver!r}"
        text = (
            f"{solver} found no plan within {gigabytes(budget)}, though one of "
            f"{gigabytes(least)} is known. Try solver='auto' or a longer time_limit."
        )
        if result is not None and result.message:
            text = f"{text} ({result.message})"
    else:
        text = (
            f"{gigabytes(budget)} is below the least budget known for this model, "
            f"{gigabytes(least)}: {_made_of(step, schedule)}. Try a smaller micro-batch, a "
            f"leaner optimizer, frozen parameters (LoRA), or budget_gb={_round_up(least)}."
        )
    return InfeasibleBudget(text, budget_bytes=budget, least_bytes=least)


def _made_of(step: Step, schedule: Schedule) -> str:
    resident, trace = step.resident, simulate(step.graph, schedule)
    parts = dict(resident.kinds)
    if resident.optimizer_step_peak > resident.total + trace.peak:
        parts["gradients and the optimizer's step"] = resident.optimizer_step_peak - resident.total
        moment = "in the optimizer's step"
    else:
        parts |= live_kinds(step.graph, trace)
        op = step.graph.ops[schedule.order[trace.peak_step]]
        moment = f"while {op.name!r}{f' of {op.module}' if op.module else ''} runs"
    listed = ", ".join(f"{gigabytes(size)} {kind}" for kind, size in parts.items() if size)
    return f"{listed} ({moment})"


def _round_up(size: int) -> float:
    unit = 10**6 if size < 10**9 else 10**7
    return -(-size // unit) * unit / 1e9


@contextlib.contextmanager
def display_progress(on: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A report that logs at most once a second, shown on the standard error if `on`."""
    if not on:
        yield None
        return
    handler = logging.StreamHandler()
    level, last = logger.level, [0.0]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def report(progress: Progress) -> None:
        if time.monotonic() - last[0] >= 1.0:
            last[0] = time.monotonic()
            logger.info("%s", progress)

    try:
        yield report
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
