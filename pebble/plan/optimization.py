"""`optimize`: from a model and a budget to a plan. The pipeline and nothing else."""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import numbers
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.plan.plan import Plan, Unplanned, live_kinds
from pebble.plan.report import gigabytes
from pebble.problem import Objective, Problem
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Progress, Result, Solver, get_solver, solve

if TYPE_CHECKING:
    import torch

    from pebble.measure.step import Step

logger = logging.getLogger("pebble")
ChunkedLoss = Literal["auto", False] | int
_LARGE_OUTPUTS = 0.02
"""Share of the least budget from which outputs beside the loss are worth a word."""


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
    outputs: Literal["all", "loss"] = "all",
    chunked_loss: ChunkedLoss = "auto",
    accumulation_steps: int = 1,
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
    outputs : "all" or "loss"
        What a planned call returns. "loss": the loss that the model computes, and None for every
        other tensor of its output (the logits, say), which then need not be held until the
        backward is over.
    chunked_loss : "auto", int or False
        Compute the output projection and the cross entropy of a language model so many tokens at
        a time: into how many chunks they are split. Gradients then equal those of the un-planned
        step up to rounding, not bit for bit, and the model's output holds no logits.
        "auto": only if no plan fits the budget otherwise.
    accumulation_steps : int
        Micro-batches whose gradients are added up before the optimizer steps; `inputs` are one of
        them. From the second one on, the gradients so far are there during the whole step.
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
    from pebble.measure.step import trace_step

    budget = whole_budget(budget_gb, budget_bytes)
    check_chunked_loss(chunked_loss)
    get_solver(solver)
    step = trace_step(
        model,
        inputs,
        loss=loss,
        optimizer=optimizer,
        costs=costs,
        batch_size=batch_size,
        seq_len=seq_len,
        accumulation_steps=accumulation_steps,
        outputs=outputs,
    )
    return plan_step(
        step,
        budget,
        solver=solver,
        time_limit=time_limit,
        seed=seed,
        display=display,
        chunked_loss=chunked_loss,
        **options,
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
    chunked_loss: ChunkedLoss = False,
    **options: Any,
) -> Plan:
    """Plan a traced step; `optimize` for many budgets of one step.

    Parameters
    ----------
    chunked_loss : "auto", int or False
        As in `optimize`.
    start : Schedule, optional
        A known schedule (of a smaller budget, say): given to a solver that can begin with it, and
        kept if the solver finds none cheaper.

    Raises
    ------
    InfeasibleBudget
    """
    check_chunked_loss(chunked_loss)
    search = _Search(budget_bytes, solver, time_limit, seed, display, options)
    if chunked_loss is not False and chunked_loss != "auto":
        step = step.chunked(int(chunked_loss))
    result = search.run(step, start)
    if result is None and chunked_loss == "auto":
        other = _automatically_chunked(step, budget_bytes)
        if other is not None and other.floor_bytes < step.floor_bytes:
            step, result = other, search.run(other, None)
    if result is None:
        raise _infeasible(step, search)
    return search.plan(step, result)


def check_chunked_loss(chunked_loss: ChunkedLoss) -> None:
    """Raise `InvalidArgument` unless it is "auto", False or a number of chunks."""
    number = isinstance(chunked_loss, int) and not isinstance(chunked_loss, bool)
    if chunked_loss is not False and chunked_loss != "auto" and not (number and chunked_loss > 1):
        raise InvalidArgument(
            f"chunked_loss is {chunked_loss!r}; pass 'auto', False, or a number of chunks from 2 "
            "on."
        )


def _automatically_chunked(step: Step, budget: int) -> Step | None:
    """The step with its loss in chunks, if it has one that can be split."""
    from pebble.tracing.chunked_loss import suggest_chunks

    if step.whole is not None or step.resident.total >= budget:
        return None
    try:
        return step.chunked(suggest_chunks(step.captured, budget - step.resident.total))
    except InvalidArgument as error:
        logger.info("%s", error)
        return None


@dataclass(frozen=True)
class _Search:
    """A budget, a solver and its options; for one step or another."""

    budget: int
    solver: str | Solver
    time_limit: float
    seed: int
    display: bool
    options: dict[str, Any]
    results: list[Result] = field(default_factory=list)

    def run(self, step: Step, start: Schedule | None) -> Result | None:
        """What the solver finds; None if that is no schedule."""
        if step.resident.total > self.budget or step.resident.optimizer_step_peak > self.budget:
            return None
        problem = Problem(step.graph, self.budget - step.resident.total)
        options = self.options | starting_options(self.solver, start)
        with display_progress(self.display) as report:
            result = solve(
                problem,
                self.solver,
                time_limit=self.time_limit,
                seed=self.seed,
                report=report,
                **options,
            )
        result = best_of(result, start)
        self.results.append(result)
        return None if result.schedule is None else result

    def plan(self, step: Step, result: Result) -> Plan:
        """The plan of a result."""
        assert result.schedule is not None
        return Plan(
            budget_bytes=self.budget,
            problem=result.problem,
            schedule=result.schedule,
            resident=step.resident,
            status=result.status,
            lower_bound=result.lower_bound,
            scope=result.scope,
            solver=result.solver,
            seed=self.seed,
            runtime=result.runtime,
            options=dict(result.options),
            origin=step.origin,
            workspace_measured=step.workspace_measured,
            step=step,
            unchunked=None if step.whole is None else unplanned(step.whole),
        )


def unplanned(step: Step) -> Unplanned:
    """Figures of a step that runs as it is."""
    trace = simulate(step.graph, Schedule.keep_all(step.graph))
    sizes = step.graph.arrays.size
    return Unplanned(
        peak_bytes=step.resident.whole_step_peak(trace.peak),
        cost=trace.cost,
        saved_bytes=int(sizes[list(trace.saved)].sum()),
        floor_bytes=step.floor_bytes,
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
        If none or both are given, or it is not a finite number of at least one byte.
    """
    if (budget_gb is None) == (budget_bytes is None):
        raise InvalidArgument("Pass one of budget_gb (10**9 bytes) and budget_bytes.")
    if budget_bytes is None:
        assert budget_gb is not None
        return _at_least_one_byte("budget_gb", budget_gb, 10**9)
    return _at_least_one_byte("budget_bytes", budget_bytes, 1)


def _at_least_one_byte(name: str, value: float, unit: int) -> int:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise InvalidArgument(f"{name} is {value!r}; it must be a positive finite number.")
    size = int((value if isinstance(value, int) else float(value)) * unit)
    if size < 1:
        raise InvalidArgument(f"{name} is {value!r}, less than one byte; nothing fits that.")
    return size


# -- when nothing fits -----------------------------------------------------------------------


def least_budget(step: Step, *, time_limit: float = 30.0, seed: int = 0) -> tuple[int, Schedule]:
    """The least whole-step budget known to work, and the schedule that shows it."""
    graph = step.graph
    top = Problem(graph, simulate(graph, Schedule.keep_all(graph)).peak, Objective.PEAK)
    enough = step.resident.optimizer_step_peak - step.resident.total  # lower is of no use
    result = solve(top, "minpeak", time_limit=time_limit, seed=seed, target=enough)
    schedule = result.schedule or Schedule.keep_all(graph)
    return step.resident.whole_step_peak(simulate(graph, schedule).peak), schedule


def _infeasible(step: Step, search: _Search) -> InfeasibleBudget:
    budget = search.budget
    result = search.results[-1] if search.results else None
    least, schedule = least_budget(step, time_limit=min(search.time_limit, 20.0), seed=search.seed)
    if least <= budget:
        solver = "The solver" if result is None else f"Solver {result.solver!r}"
        text = (
            f"{solver} found no plan within {gigabytes(budget)}, though one of "
            f"{gigabytes(least)} is known. Try solver='auto' or a longer time_limit."
        )
        if result is not None and result.message:
            text = f"{text} ({result.message})"
    else:
        chunks = step.origin.get("chunks")
        asked, known = gigabytes(budget), gigabytes(least)
        if asked == known:
            asked, known = f"{budget:,} bytes", f"{least:,} bytes"
        text = (
            f"{asked} is below the least budget known for this model"
            f"{f' even with its loss in {chunks} chunks' if chunks else ''}, "
            f"{known}: {_made_of(step, schedule)}. Try "
            f"{_chunks_would_help(step, schedule)}{_loss_alone_would_help(step, least)}a smaller "
            "micro-batch, a leaner optimizer, frozen parameters (LoRA), or "
            f"budget_gb={_round_up(least)}."
        )
    return InfeasibleBudget(text, budget_bytes=budget, least_bytes=least)


def _chunks_would_help(step: Step, schedule: Schedule) -> str:
    """The advice to split the loss, where the loss sets the peak and can be split."""
    from pebble.tracing.loss_region import find_region

    trace = simulate(step.graph, schedule)
    nodes = step.captured.op_nodes[schedule.order[trace.peak_step]]
    in_the_step = step.resident.total + trace.peak >= step.resident.optimizer_step_peak
    if step.whole is not None or not in_the_step:
        return ""
    try:
        region = find_region(step.captured)
    except InvalidArgument:
        return ""
    return "chunked_loss='auto', " if any(node in region.forms for node in nodes) else ""


def _loss_alone_would_help(step: Step, least: int) -> str:
    """The advice to hand over the loss alone, where the other outputs are large."""
    from pebble.tracing.signature import OutputKind

    captured, values = step.captured, step.captured.graph.values
    if captured.loss is not None or captured.loss_only:
        return ""
    plain = [o.node for o in captured.outputs if o.kind is OutputKind.PLAIN]
    handed = {captured.value_of[node] for node in plain if node in captured.value_of}
    held = sum(values[v].size for v in handed if not values[v].external)
    return "outputs='loss', " if held > _LARGE_OUTPUTS * least else ""


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
    """In GB with four digits, never less."""
    unit: int = 10 ** max(len(str(size)) - 4, 0)
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
