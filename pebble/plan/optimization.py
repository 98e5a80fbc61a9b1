"""`optimize`: from a model and a budget to a plan. The pipeline and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pebble.arguments import check_keywords, check_time_limit, one_of
from pebble.budget import Footprint, whole_budget
from pebble.cards import tell_budget
from pebble.deadline import Deadline
from pebble.errors import CaptureError
from pebble.options import TIME_LIMIT, ChunkedLoss, Differentiate, SearchOptions, StepOptions
from pebble.plan.cap import Cap
from pebble.plan.in_flight import InFlightSearch
from pebble.plan.module_level import LEVELS, module_plan, module_plan_instead
from pebble.plan.module_plan import ModulePlan
from pebble.plan.plan import Plan
from pebble.plan.report import outcome
from pebble.plan.reserved_budget import ReservedSearch
from pebble.plan.search import PlanSearch
from pebble.plan.step_search import Found, Start, find_within
from pebble.plan.unnamed_loss import tell_unnamed_loss
from pebble.progress import open_line, progress_line
from pebble.schedule import Schedule
from pebble.solver import Result, Solver, check_solver_options
from pebble.verdict import Checked, Verdict

if TYPE_CHECKING:
    import torch

    from pebble.measure.step import Step


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
    level: Literal["auto", "graph", "module"] = "auto",
    budget_kind: Literal["allocated", "reserved"] | None = None,
    check: bool | None = None,
    display: bool | None = None,
    differentiate: Differentiate = None,
    calls_in_flight: int = 1,
    card: str | None = None,
    **options: Any,
) -> Plan | ModulePlan:
    """Plan a training step of `model` within a memory budget, with the least recomputation.

    A process remembers what earlier calls have found for the same step: more budget never costs
    more, and what is known to fit is never refused. So a second call may find a better plan than
    the first; the same calls in a fresh process find the same, where time cuts no search short.

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
        "sgd", "momentum", "adam", "adamw", "sparse_adam", "adamw8bit" ... ; None: forward and
        backward only.
    loss : callable, optional
        From the model's outputs to the scalar loss. Default: ``.loss``; without one, whatever you
        make of the outputs.
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
    level : "auto", "graph" or "module"
        "graph": plan every op of the step; a model that is no single graph is refused.
        "module": run its own forward, with blocks that keep their inputs only and run again in
        the backward; the step is run a few times to measure it. "auto": the graph, or modules
        where the forward is no single graph (control flow that depends on data, recurrent
        networks), with a word in the log.
    budget_kind : "allocated" or "reserved", optional
        What must fit the budget: the bytes of tensors, or the segments that torch's allocator
        reserves for them on a card, as its published rules have it. Default: "reserved" on a card,
        "allocated" on the CPU.
    differentiate : "loss", "all" or sequence of str, optional
        The outputs that your loss reads: the loss alone, every one, or the loss and those of these
        names ("logits", "[1]"). Each that is not a scalar costs the memory of its gradient; one
        that is left out raises where a gradient reaches it. Default: the loss, where `loss` is
        passed or the model computes one, else every output that needs a gradient.
    calls_in_flight : int
        Calls of the planned module before the first backward (two views of a contrastive loss, a
        discriminator on real and on generated data): what the calls that wait hold is counted.
    card : str, optional
        "t4", "l4", "a100", "h100" ... (`pebble.cards.CARDS`): plan the step with the kernels of
        this card, wherever the model is and whatever card is at hand; no card is needed. The plan
        is applied there. A `torch.autocast("cpu", ...)` around the call stands for the card's.
    check : bool, optional
        Compare a planned step with one of eager on these inputs: outputs, gradients, buffers and
        the random state. Default: at once where that takes less than a second, else at the first
        planned training call if an eager step fits the budget then (`pebble.status` says what
        came of it). True: at once. False: never.
    display : bool, optional
        Show what is done, incumbent, bound and gap, and in the end what came out; default: on a
        terminal and in a notebook.
    **options
        Of the solver.

    Returns
    -------
    Plan, or ModulePlan where `level` says so

    Raises
    ------
    InfeasibleBudget
        If no plan fits; says the least budget known to work.
    PlanIsWrong
        If a planned step gives other numbers than eager.
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
    one_of("check", check, (None, True, False))
    budget = whole_budget(budget_gb, budget_bytes)
    search = SearchOptions(
        solver, time_limit, seed, display, chunked_loss, options, budget_kind=budget_kind
    )
    asked = StepOptions(
        optimizer=optimizer,
        loss=loss,
        costs=costs,
        outputs=outputs,
        accumulation_steps=accumulation_steps,
        batch_size=batch_size,
        seq_len=seq_len,
        differentiate=differentiate,
        calls_in_flight=calls_in_flight,
        card=card,
    )
    within = PlanSearch(budget, search, deadline)
    tell_budget(asked.card, budget)
    one_of("level", level, LEVELS)
    check_keywords("optimize", options, inspect.signature(optimize).parameters)
    check_solver_options(solver, options)
    with progress_line(display, f"optimize {type(model).__name__}", time_limit) as line:
        plan = _plan_model(model, inputs, asked, within, level, check)
        line.result(
            outcome(
                peak_bytes=plan.peak_bytes,
                budget_bytes=plan.budget_bytes,
                overhead=plan.overhead,
                gap=plan.gap,
            )
        )
        return plan


def _plan_model(
    model: Any,
    inputs: Any,
    asked: StepOptions,
    within: PlanSearch,
    level: str,
    check: bool | None,
) -> Plan | ModulePlan:
    from pebble.measure.step import trace

    if level == "module":
        return module_plan(model, inputs, asked, within)
    try:
        step = trace(model, inputs, asked)
    except CaptureError as refused:
        if level == "graph":
            raise
        return module_plan_instead(model, inputs, asked, within, refused)
    plan = plan_within(step, within)
    assert plan.step is not None
    tell_unnamed_loss(plan.step, plan.schedule, plan.trace, within.budget_bytes)
    open_line().stage("compare with eager")
    return plan.compared(check, within.deadline.left)


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
    auto = search.options.chunked_loss == "auto"

    def known(whole: Footprint, budget_bytes: int) -> Schedule | None:
        return None if auto and whole.graph is not step.graph else start

    return _held_plan(step, search, known)


def find_held(step: Step, search: PlanSearch, start: Start) -> Found:
    """The same with starts for several graphs, as a step and the schedule found for it."""
    plan = _held_plan(step, search, start)
    assert plan.step is not None
    result = Result(
        problem=plan.problem,
        solver=plan.solver,
        status=plan.status,
        schedule=plan.schedule,
        trace=plan.trace,
        lower_bound=plan.lower_bound,
        scope=plan.scope,
        closest_peak=plan.trace.peak,
        runtime=plan.runtime,
        seed=plan.seed,
        options=plan.options,
    )
    return Found(plan.step, result)


def _held_plan(step: Step, search: PlanSearch, start: Start) -> Plan:
    """The plan whose tensors, or what a card reserves for them, are within the budget."""

    def of_one_call(step: Step, part: PlanSearch) -> Plan:
        return plan_of(find_within(step, part, start), part)

    def of_tensors(part: PlanSearch) -> Plan:
        if step.options.calls_in_flight > 1:
            return InFlightSearch(of_one_call, step, part).plan()
        return of_one_call(step, part)

    cap = Cap.for_device(search.options.budget_kind, step.captured.device)
    if not cap.is_reserved:
        return of_tensors(search)
    return ReservedSearch(of_tensors, search, cap, start).plan()


def plan_of(found: Found, search: PlanSearch) -> Plan:
    """What a search has found, as a plan."""
    step, result = found.step, found.result
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
        checked=Verdict(Checked.OFF),
    )
