"""`budgeted`: one budget, and a plan for whatever batch comes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pebble.arguments import check_keywords, check_time_limit, one_of, positive_integer
from pebble.budget import whole_budget
from pebble.errors import InvalidArgument
from pebble.measure.costs import check_costs
from pebble.measure.memory import check_optimizer
from pebble.measure.optimizers import optimizer_memory
from pebble.measure.rank_memory import ranks_of
from pebble.options import ChunkedLoss, Differentiate, SearchOptions, StepOptions
from pebble.plan.block_planning import plan_blocks
from pebble.plan.fused.fused_follower import EXECUTIONS, INDUCTOR, fuse
from pebble.plan.optimization import find_held
from pebble.plan.part_planning import PlansParts
from pebble.plan.plan_store import PlanDirectory
from pebble.plan.replanning import FIRST_SECONDS, LATER_SECONDS, Asked, Replanner
from pebble.runtime.block_members import BlockMembers
from pebble.runtime.padded_calls import PaddedCalls
from pebble.runtime.part_follower import Parts
from pebble.runtime.planned_module import wrap
from pebble.runtime.replanning_follower import ReplanningFollower
from pebble.solver import Solver, check_solver_options
from pebble.tracing.dynamic_shapes import DynamicShapes
from pebble.tracing.plannable import plannable
from pebble.tracing.step_capture import check_loss
from pebble.tracing.wrapped import put_inside

if TYPE_CHECKING:
    import torch
    from torch import nn

LEVELS = ("auto", "graph")


def budgeted(
    model: nn.Module,
    *,
    budget_gb: float | None = None,
    budget_bytes: int | None = None,
    optimizer: str | torch.optim.Optimizer | None = "adamw",
    loss: Callable[[Any], torch.Tensor] | None = None,
    solver: str | Solver = "auto",
    time_limit: float | None = None,
    costs: str = "auto",
    seed: int = 0,
    outputs: Literal["all", "loss"] = "all",
    chunked_loss: ChunkedLoss = "auto",
    accumulation_steps: int = 1,
    budget_kind: Literal["allocated", "reserved"] | None = None,
    cache: str | os.PathLike[str] | None = None,
    display: bool | None = None,
    differentiate: Differentiate = None,
    calls_in_flight: int = 1,
    check: bool | None = None,
    background: bool = False,
    execution: Literal["ops", "inductor"] = "ops",
    level: Literal["auto", "graph"] = "auto",
    dynamic_shapes: Any = None,
    pad_to: int | None = None,
    **options: Any,
) -> nn.Module:
    """A module that trains within a memory budget, whatever batch it is called with.

    Its first training call makes a plan, on that call's own inputs, and so does every call with
    inputs of a form that is new: other shapes, another mode of a submodule. What was planned once
    is kept. After `eval()`, under `torch.no_grad` and in generation the model itself runs.

    A forward that is no single graph (control flow that depends on data, recurrent networks) is
    planned module by module, as in `pebble.optimize`: the first call, and each one with larger
    inputs than those before, is run a few times to be measured, once without a plan.

    Parameters
    ----------
    model : nn.Module
        One in DistributedDataParallel stays in it, planned, and the wrapper is what is returned.
    budget_gb, budget_bytes : float, int
        For the whole step, whatever its batch; see `pebble.optimize`. Pass one of the two.
    optimizer, loss, solver, costs, seed, outputs, chunked_loss, accumulation_steps, budget_kind,
    differentiate, calls_in_flight
        As in `pebble.optimize`.
    check : bool, optional
        Compare each plan with a step of eager before it first trains. Default: where such a step
        fits the budget too (`pebble.status` says what came of it). True: always, or raise. False:
        never.
    background : bool
        Train by the first plan found, at most a second after the trace, and go on looking for a
        better one in a thread: it takes its place between steps. Until then the inputs of the
        planned call are kept (where the budget has no room for them, the search comes first).
    time_limit : float, optional
        Seconds of search for each form of inputs, after it is traced. Default: 10 for the first
        that needs a search, and 2 for every other one.
    execution : "ops" or "inductor"
        Op by op, or compiled by inductor with fused kernels: each plan is then measured before it
        trains and corrected, in at most three rounds (`pebble.status` says how).
    level : "auto" or "graph"
        What becomes of calls that give no graph: a plan of modules, or `CaptureError`.
    dynamic_shapes : mapping or tuple, optional
        In the notation of `torch.export`: the sizes that vary, so that the first call is already
        traced with them left open (its bounds say for which calls). What is not named is traced
        anew when it changes. Default: found from the calls.
    pad_to : int, optional
        Where sizes cannot be left open and every shape would be traced: round lengths (what varies
        behind the first dimension) up to a multiple of this. Labels are filled up with -100,
        everything else with 0, and an attention mask is added where the forward takes one. Each
        new shape is first compared with eager on the call as it is: a call whose loss or gradients
        padding changes (also by a dropout that draws) raises `InvalidArgument`.
    cache : path-like, optional
        Directory in which plans are kept: for the same graph no solver runs again.
    display : bool, optional
        Show a line for each plan; default: on a terminal and in a notebook. The logger "pebble"
        has it in any case.
    **options
        Of the solver.

    Returns
    -------
    nn.Module
        Of the model's class, with its parameters, names and attributes; see `pebble.status`. A
        call raises `InfeasibleBudget` if no plan fits its inputs, `CaptureError` if they can be
        planned neither as a graph nor module by module, and `PlanMismatch` if a Python value
        changes again and again.

    Raises
    ------
    InvalidArgument, UnknownSolver

    Examples
    --------
    >>> import torch, pebble
    >>> net = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(4)])
    >>> net = pebble.budgeted(net, budget_gb=0.001, display=False)
    >>> for rows in (256, 256, 100):
    ...     net(torch.ones(rows, 64)).sum().backward()
    ...     net.zero_grad()
    >>> pebble.status(net).planned_calls, pebble.status(net).plans_made
    (3, 2)
    """
    budget = whole_budget(budget_gb, budget_bytes)
    _check_options(options)
    step = StepOptions(
        optimizer=optimizer,
        loss=loss,
        costs=costs,
        outputs=outputs,
        accumulation_steps=accumulation_steps,
        differentiate=differentiate,
        calls_in_flight=calls_in_flight,
        ranks=ranks_of(model),
    )
    first = FIRST_SECONDS if time_limit is None else check_time_limit(time_limit)
    later = LATER_SECONDS if time_limit is None else first
    search = SearchOptions(
        solver, first, seed, display, chunked_loss, options, budget_kind=budget_kind
    )
    given, model = model, plannable(model)
    _check_step(step, model, costs)
    check_solver_options(solver, options)
    if one_of("execution", execution, EXECUTIONS) == INDUCTOR:
        _check_fused(
            cache=cache, background=background, check=check, dynamic_shapes=dynamic_shapes,
            pad_to=pad_to,
        )  # fmt: skip
        return put_inside(given, fuse(model, budget, step, search))
    _check_choices(check, background, level)
    _check_padding(step, pad_to, background)
    dynamic = DynamicShapes.of(model, dynamic_shapes)
    asked = Asked(
        budget, step, search, later, display, check=check, background=background, dynamic=dynamic
    )
    return put_inside(given, wrap(model, _following(asked, cache, level, pad_to)))


def _following(
    asked: Asked, cache: str | os.PathLike[str] | None, level: str, pad_to: int | None
) -> ReplanningFollower:
    store = None if cache is None else PlanDirectory(cache)
    blocks = BlockMembers(plan_blocks) if level == "auto" else None
    padded = None if pad_to is None else PaddedCalls(pad_to)
    following = ReplanningFollower(Replanner(asked, store, find_held), blocks=blocks, padded=padded)
    following.parts = Parts(PlansParts(lambda: asked, find=find_held))
    return following


def _check_choices(check: bool | None, background: bool, level: str) -> None:
    one_of("check", check, (None, True, False))
    one_of("background", background, (True, False))
    one_of("level", level, LEVELS)


def _check_padding(step: StepOptions, pad_to: int | None, background: bool) -> None:
    if pad_to is None:
        return
    positive_integer("pad_to", pad_to)
    others = {
        "loss": step.loss is not None,
        "differentiate": step.differentiate is not None,
        "background": background,
    }
    for name in (name for name, given in others.items() if given):
        raise InvalidArgument(
            f"pad_to does not go with {name}=: it is for models that compute their loss themselves "
            "and are searched before they train. Leave one of the two out."
        )


def _check_step(step: StepOptions, model: nn.Module, costs: str) -> None:
    check_costs(costs)
    check_loss(step.loss, loss_only=step.outputs == "loss")
    check_optimizer(step.optimizer, model)
    if isinstance(step.optimizer, str):
        optimizer_memory(step.optimizer, ())


def _check_options(options: Mapping[str, Any]) -> None:
    for name in ("batch_size", "seq_len"):
        if name in options:
            raise InvalidArgument(
                f"budgeted takes no {name}: it plans the batches that it is called with."
            )
    check_keywords("budgeted", options, inspect.signature(budgeted).parameters)


def _check_fused(**asked: Any) -> None:
    """Refuse what steps that are compiled do not follow."""
    for name, value in asked.items():
        if value:
            raise InvalidArgument(
                f"{name}={value!r} is of no use with execution='inductor', which measures each "
                f"plan itself. Leave {name} out, or take execution='ops'."
            )
