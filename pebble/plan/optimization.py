"""`optimize`: from a model and a budget to a plan. The pipeline and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pebble.arguments import check_time_limit
from pebble.budget import LeastKnown, whole_budget
from pebble.deadline import Deadline
from pebble.errors import InfeasibleBudget, InvalidArgument
from pebble.options import TIME_LIMIT, ChunkedLoss, SearchOptions, StepOptions
from pebble.plan.infeasible import infeasible_budget
from pebble.plan.plan import Plan
from pebble.plan.search import PlanSearch
from pebble.referee import simulate
from pebble.schedule import Schedule
from pebble.solver import Result, Solver

if TYPE_CHECKING:
    import torch

    from pebble.measure.step import Step

logger = logging.getLogger("pebble")
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
    time_limit: float = TIME_LIMIT,
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
        Seconds for the whole call: tracing, solving, and the search for the least budget where
        nothing fits. Where tracing alone takes longer, one quick plan follows.
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
    deadline = Deadline(check_time_limit(time_limit))
    from pebble.measure.step import trace

    budget = whole_budget(budget_gb, budget_bytes)
    search = SearchOptions(solver, time_limit, seed, display, chunked_loss, options)
    asked = StepOptions(
        optimizer=optimizer,
        loss=loss,
        costs=costs,
        outputs=outputs,
        accumulation_steps=accumulation_steps,
        batch_size=batch_size,
        seq_len=seq_len,
    )
    step = trace(model, inputs, asked)
    return plan_within(step, PlanSearch(budget, search, deadline))


def plan_step(
    step: Step,
    budget_bytes: int,
    *,
    start: Schedule | None = None,
    deadline: Deadline | None = None,
    **options: Any,
) -> Plan:
    """Plan a traced step; `optimize` for many budgets of one step.

    Parameters
    ----------
    step : Step
    budget_bytes : int
        For the whole step.
    start : Schedule, optional
        A known schedule (of a smaller budget, say): given to a solver that can begin with it, and
        kept if the solver finds none cheaper.
    deadline : Deadline, optional
        Of the call that this is a part of; default: `time_limit` from now on.
    **options
        Fields of `pebble.options.SearchOptions` (solver, time_limit, seed, display, chunked_loss:
        here False by default) and options of the solver.

    Raises
    ------
    InfeasibleBudget, InvalidArgument
    """
    asked = SearchOptions.of(**{"chunked_loss": False} | options)
    return plan_within(
        step, PlanSearch(budget_bytes, asked, deadline or Deadline(asked.time_limit)), start
    )


def plan_within(step: Step, search: PlanSearch, start: Schedule | None = None) -> Plan:
    """The plan that a search finds for a step, its loss in chunks where that is asked for.

    Raises
    ------
    InfeasibleBudget
        Only if no schedule is known that fits.
    """
    chunked = search.options.chunked_loss
    if chunked is not False and chunked != "auto":
        step = step.chunked(int(chunked))
    result = search.find(step.footprint, start)
    if result is None and chunked == "auto":
        other = _automatically_chunked(step, search.budget_bytes)
        if other is not None and _lower(other, step):
            step, result = other, search.find(other.footprint)
    if result is None:
        least = search.least(step.footprint)
        result = search.adopt(step.footprint, least)
        if result is None:
            raise _infeasible(step, search.budget_bytes, least)
    return _plan(step, search, result)


def _lower(step: Step, other: Step) -> bool:
    """Whether one step has a lower floor than another."""
    return step.footprint.peak_lower_bound < other.footprint.peak_lower_bound


def _automatically_chunked(step: Step, budget_bytes: int) -> Step | None:
    """The step with its loss in chunks, if it has one that can be split."""
    from pebble.tracing.chunked_loss import suggest_chunks

    room = step.footprint.problem(budget_bytes).budget
    if step.whole is not None or room == 0:
        return None
    try:
        return step.chunked(suggest_chunks(step.captured, room))
    except InvalidArgument as error:
        logger.info("%s", error)
        return None


def _plan(step: Step, search: PlanSearch, result: Result) -> Plan:
    assert result.schedule is not None
    return Plan(
        budget_bytes=search.budget_bytes,
        problem=result.problem,
        schedule=result.schedule,
        resident=step.resident,
        status=result.status,
        lower_bound=result.lower_bound,
        scope=result.scope,
        solver=result.solver,
        seed=search.options.seed,
        runtime=result.runtime,
        options=dict(result.options),
        record=step.record,
        workspace_measured=step.workspace_measured,
        step=step,
        unchunked=None if step.whole is None else step.whole.footprint.unplanned,
    )


# -- when nothing fits -----------------------------------------------------------------------


def _infeasible(step: Step, budget_bytes: int, least: LeastKnown) -> InfeasibleBudget:
    chunks = step.options.chunks
    subject = f"this model even with its loss in {chunks} chunks" if chunks else "this model"
    advice = []
    if _chunks_would_help(step, least):
        advice.append("chunked_loss='auto'")
    if _loss_alone_would_help(step, least):
        advice.append("outputs='loss'")
    return infeasible_budget(step.footprint, budget_bytes, least, subject=subject, advice=advice)


def _chunks_would_help(step: Step, least: LeastKnown) -> bool:
    """Whether the loss sets the peak and can be split."""
    from pebble.tracing.loss_region import find_region

    trace = simulate(step.graph, least.schedule)
    nodes = step.captured.op_nodes[least.schedule.order[trace.peak_step]]
    if step.whole is not None or step.footprint.in_optimizer_step(trace):
        return False
    try:
        region = find_region(step.captured)
    except InvalidArgument:
        return False
    return any(node in region.forms for node in nodes)


def _loss_alone_would_help(step: Step, least: LeastKnown) -> bool:
    """Whether the outputs beside the loss are large, and need not be handed over."""
    from pebble.tracing.signature import OutputKind

    captured, values = step.captured, step.captured.graph.values
    if captured.loss is not None or captured.loss_only:
        return False
    plain = [o.node for o in captured.outputs if o.kind is OutputKind.PLAIN]
    handed = {captured.value_of[node] for node in plain if node in captured.value_of}
    held = sum(values[v].size for v in handed if not values[v].external)
    return held > _LARGE_OUTPUTS * least.peak_bytes
