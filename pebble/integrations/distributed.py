"""Training on several ranks: blocks that FSDP2 shards, and one plan for all ranks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch import nn

from pebble.budget import whole_budget
from pebble.deadline import Deadline
from pebble.errors import InvalidArgument, PebbleError
from pebble.options import TIME_LIMIT, StepOptions
from pebble.plan.block_search import BlockSearch, BlocksPlan, ShardedStep
from pebble.plan.module_plan import ModulePlan
from pebble.plan.optimization import optimize
from pebble.plan.plan import Plan
from pebble.plan.plan_file import as_text
from pebble.runtime.planned_module import PlannedModule, is_outermost, plan_in_place, unplan
from pebble.tracing.inputs import make_inputs
from pebble.tracing.sharded import has_shards, is_sharded, unsharded_twin

if TYPE_CHECKING:
    import torch


def budgeted_blocks(
    model: nn.Module,
    inputs: Any,
    blocks: Iterable[nn.Module] | None = None,
    *,
    budget_gb: float | None = None,
    budget_bytes: int | None = None,
    optimizer: str | torch.optim.Optimizer | None = "adamw",
    loss: Callable[[Any], torch.Tensor] | None = None,
    accumulation_steps: int = 1,
    ranks: int | None = None,
    costs: str = "auto",
    time_limit: float = TIME_LIMIT,
) -> BlocksPlan:
    """Plan each block of a model that FSDP2 shards, all of them within one budget for a rank.

    The blocks of the model follow their plans from now on; names, parameters and everything else
    stay. FSDP2 gathers and shares out around them as before: no plan runs a collective.

    Parameters
    ----------
    model : nn.Module
        Before `fully_shard`, or after: then it is planned from its un-sharded shapes, on a copy of
        them with numbers of its own that is let go of afterwards. Nobody communicates.
    inputs
        Of this rank, of the shapes you train on, as for `pebble.optimize`.
    blocks : iterable of nn.Module, optional
        The modules that are sharded by themselves, besides the whole model. Default, after
        `fully_shard`: those that are.
    budget_gb, budget_bytes : float, int
        For all that a rank holds: shards of parameters, gradients and optimizer state, gathered
        parameters, buffers of the collectives, activations. Pass one of the two.
    optimizer, loss, costs, time_limit
        As in `pebble.optimize`.
    accumulation_steps : int
        Micro-batches before a reduction (`set_requires_gradient_sync`): then whole gradients are
        counted.
    ranks : int, optional
        Default: those of torch.distributed.

    Raises
    ------
    InfeasibleBudget
        If no choice of plans fits; says the least that was measured.
    InvalidArgument
        If a block is none of the model's, inside another, or called more than once.
    CaptureError, PlanIsWrong
    """
    budget = whole_budget(budget_gb, budget_bytes)
    names = _names(model, blocks)
    options = StepOptions(
        optimizer=optimizer, loss=loss, accumulation_steps=accumulation_steps, costs=costs
    )
    for name in names:
        _unplanned(model.get_submodule(name), name)
    whole = unsharded_twin(model) if has_shards(model) else model
    step = ShardedStep(
        whole,
        {name: whole.get_submodule(name) for name in names},
        make_inputs(whole, inputs),
        options,
        dist.get_world_size() if ranks is None else ranks,
    )
    plan, followers = BlockSearch(step, budget, Deadline(time_limit)).find()
    for name, follower in followers.items():
        plan_in_place(model.get_submodule(name), follower)
    return plan


def _unplanned(block: nn.Module, name: str) -> None:
    """Take the plan off a block that has one.

    Raises
    ------
    InvalidArgument
        If it was sharded with its plan, which is below the sharding then.
    """
    if is_sharded(block) and isinstance(block, PlannedModule) and not is_outermost(block):
        raise InvalidArgument(
            f"Block {name!r} was planned before fully_shard and follows that plan. Plan the blocks "
            "once, or build the model again."
        )
    unplan(block)


def _names(model: nn.Module, blocks: Iterable[nn.Module] | None) -> list[str]:
    """Names of the blocks.

    Raises
    ------
    InvalidArgument
    """
    known = {id(module): name for name, module in model.named_modules() if name}
    if blocks is None:
        blocks = [m for name, m in model.named_modules() if name and is_sharded(m)]
    found = [(known.get(id(block)), block) for block in blocks]
    if not found:
        raise InvalidArgument(
            f"No block of this {type(model).__name__} is sharded. Pass blocks=, the modules that "
            "fully_shard is called on besides the whole model."
        )
    inside = {id(m) for _, block in found for m in block.modules() if m is not block}
    for name, block in found:
        if name is None or id(block) in inside:
            where = "no part of the model" if name is None else f"inside another block ({name!r})"
            raise InvalidArgument(
                f"A {type(block).__name__} among the blocks is {where}. Pass modules of the model "
                "that do not hold one another."
            )
    return [name for name, _ in found if name is not None]


def optimize_together(
    model: Any,
    inputs: Any = None,
    *,
    loss: Callable[[Any], torch.Tensor] | None = None,
    **options: Any,
) -> Plan:
    """One plan for all ranks: rank 0 makes it, the others check that it is theirs.

    Every rank calls this. Rank 0 searches; the others get its plan, trace their own step and
    compare. So ranks that would find different plans under a time limit follow the same one, and
    where one rank cannot, every rank raises.

    Parameters
    ----------
    model, inputs, loss, **options
        As for `pebble.optimize`, of this rank; inputs have the same shapes on all ranks.

    Returns
    -------
    Plan
        To be applied on each rank.

    Raises
    ------
    PlanMismatch
        If the step of one rank is another one; names the first difference.
    PebbleError
        If another rank fails; says which, and its error.
    """
    rank = dist.get_rank()
    own: tuple[Plan | None, PebbleError | None] = (None, None)
    if rank == 0:
        own = _attempt(lambda: _of_a_graph(optimize(model, inputs, loss=loss, **options)))
    sent = [None if own[0] is None else as_text(own[0].to_json())]
    dist.broadcast_object_list(sent, src=0)
    if rank != 0 and sent[0] is not None:
        text = sent[0]
        own = _attempt(lambda: _adopted(text, model, inputs, loss))
    errors: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(errors, None if own[1] is None else str(own[1]))
    if own[1] is not None:
        raise own[1]
    for other, error in enumerate(errors):
        if error is not None:
            raise PebbleError(f"Rank {other} has no part in the plan of all ranks: {error}")
    assert own[0] is not None
    return own[0]


def _adopted(text: str, model: Any, inputs: Any, loss: Any) -> Plan:
    """The plan of rank 0 on this rank's step.

    Raises
    ------
    PlanMismatch, InfeasibleBudget
    """
    plan = Plan.from_json(json.loads(text))
    return plan.on(plan.step_of(model, inputs, loss))


def _attempt(make: Callable[[], Plan]) -> tuple[Plan | None, PebbleError | None]:
    try:
        return make(), None
    except PebbleError as error:
        return None, error


def _of_a_graph(plan: Plan | ModulePlan) -> Plan:
    if isinstance(plan, Plan):
        return plan
    raise InvalidArgument(
        "This model is no single graph, so each rank plans it by itself: call pebble.optimize on "
        "every rank."
    )
